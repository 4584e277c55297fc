"""A GPU that is not there: tensors of `cuda:0` have shapes, strides and dtypes, and no memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from .engine import backward

SHARED_KIB = {80: 163, 89: 99, 90: 227}  # that a block may have
DEVICE = torch.device("cuda:0")
STREAM = SimpleNamespace(cuda_stream=0, device=DEVICE)


@contextlib.contextmanager
def fake_gpu(capability: tuple[int, int] = (9, 0)) -> Iterator[FakeTensorMode]:
    """Let new tensors be fakes, and PyTorch, Triton and this package believe in a GPU of that capability.

    Triton must not be interpreted: start Python without TRITON_INTERPRET.
    """
    properties = SimpleNamespace(shared_memory_per_block_optin=SHARED_KIB[10 * capability[0] + capability[1]] << 10)
    changes = {
        "torch.cuda.device": lambda device: contextlib.nullcontext(),
        "torch.cuda.current_device": lambda: 0,
        "torch.cuda.current_stream": lambda device=None: STREAM,
        "torch.cuda.get_device_capability": lambda device=None: capability,
        "torch.cuda.get_device_properties": lambda device=None: properties,
        "torch.cuda.is_bf16_supported": lambda *given, **named: True,
        "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
        "torch.nn.utils.clip_grad._has_foreach_support": lambda tensors, device: True,  # it asks for plain tensors
        "torch.Tensor.pin_memory": lambda tensor: tensor,
        "torch.Tensor.backward": lambda loss, inputs=None: backward(loss, inputs),
    }
    with contextlib.ExitStack() as stack:
        for name, value in changes.items():
            stack.enter_context(mock.patch(name, value))
        stack.enter_context(mock.patch.object(FakeTensor, "data_ptr", address))
        yield stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))


def address(tensor: torch.Tensor) -> int:
    """Where a fake tensor's data would be: as far from a multiple of 2^20 as its storage offset says."""
    return (1 << 20) + tensor.storage_offset() * tensor.element_size()


def to_fake_gpu(network: torch.nn.Module) -> None:
    """Give a network, built on `meta`, weights and buffers on the fake GPU, laid out as the trainer lays them out."""
    for module in network.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = torch.nn.Parameter(_like(weight), weight.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = _like(buffer)


def _like(tensor: torch.Tensor) -> torch.Tensor:
    layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=DEVICE, memory_format=layout)
