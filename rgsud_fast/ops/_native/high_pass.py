"""high_pass and with_high_pass by csrc/cpu/high_pass.h or kernels/cuda/high_pass.cu."""

from __future__ import annotations

import torch
from torch import Tensor

from .._layout import empty_beside
from . import _C, address, channels_last, dtype_name, on_device, planes, stream, threads


def forward(image: Tensor, beside: bool = False) -> Tensor:
    """image - blur(image); `beside` the image, along the channels, where asked for."""
    channels = image.shape[1]
    out = empty_beside(image, 2 * channels) if beside else torch.empty_like(image)
    return _run(image, out, adjoint=False, beside=channels if beside else 0)


def backward(v_out: Tensor, beside: bool = False) -> Tensor:
    """The gradient at the image: v_detail - blur^T(v_detail), and that at the image `beside` added."""
    channels = v_out.shape[1]
    out = empty_beside(v_out, channels // 2) if beside else torch.empty_like(v_out)
    return _run(v_out, out, adjoint=True, beside=channels // 2 if beside else 0)


def _run(given: Tensor, out: Tensor, adjoint: bool, beside: int) -> Tensor:
    single = out if adjoint else given
    size = planes(single)
    if given.is_cuda and given.dtype != torch.float16:
        with on_device(given):
            tensors = address(given), address(out)
            _C.high_pass_cuda(dtype_name(given), *tensors, *size, channels_last(single), adjoint, beside, stream(given))
        return out
    if given.dtype in (torch.float16, torch.bfloat16):
        wide = torch.empty_like(out, dtype=torch.float32)
        return _run(given.float(), wide, adjoint, beside).to(given.dtype)
    _C.high_pass_cpu(dtype_name(given), address(given), address(out), *size, adjoint, beside, threads())
    return out
