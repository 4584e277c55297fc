"""The native backend: hands tensors to rgsud_fast._C as addresses, sizes and a stream. One module per op."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from ... import _C
from ...errors import UserError
from .._layout import lies_last

try:
    _C.instruction_set()
except ValueError as wrong:  # RGSUD_INSTRUCTION_SET names none that runs here
    raise UserError(str(wrong)) from None

__all__ = ["_C", "address", "channels_last", "dtype_name", "on_device", "planes", "stream", "threads"]


def address(tensor: Tensor | None) -> int:
    """Where a contiguous tensor's data is; 0 for None."""
    return 0 if tensor is None else tensor.data_ptr()


def dtype_name(tensor: Tensor) -> str:
    """The dtype as _C spells it."""
    return _NAMES[tensor.dtype]


def channels_last(x: Tensor) -> int:
    """How many channels lie last in the memory of images, for the kernels that read both layouts; 0: none."""
    return x.shape[1] if lies_last(x) else 0


def planes(tensor: Tensor) -> tuple[int, int, int]:
    """[N, C, H, W] as N * C planes, H, W."""
    images, channels, height, width = tensor.shape
    return images * channels, height, width


def threads() -> int:
    """How many CPU threads a kernel may use: as many as PyTorch."""
    return torch.get_num_threads()


def stream(tensor: Tensor) -> int:
    """The current CUDA stream of a tensor's device."""
    return torch.cuda.current_stream(tensor.device).cuda_stream


def on_device(tensor: Tensor) -> AbstractContextManager[object]:
    """Make a CUDA tensor's device the current one for a launch, where it is not."""
    return nullcontext() if tensor.device.index == torch.cuda.current_device() else torch.cuda.device(tensor.device)


_NAMES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16", torch.float16: "float16"}
