"""The layout of tensors in memory: the CPU kernels want the channels first, the GPU's convolutions want them last."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from ._check import accumulate_dtype


def to_working(x: Tensor) -> Tensor:
    """Features as the kernels take them, [N, C, H, W].

    On the CPU contiguous, in float32 at least; on the GPU channels last, in autocast's dtype where that is on.
    """
    if not x.is_cuda:
        return x.to(accumulate_dtype(x.dtype)).contiguous()
    lower = x.dtype == torch.float32 and torch.is_autocast_enabled("cuda")
    dtype = torch.get_autocast_dtype("cuda") if lower else x.dtype
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def parameter(x: Tensor, value: Tensor) -> Tensor:
    """A parameter beside such features, in the dtype that sums are kept in; contiguous, or on the GPU channels last."""
    wide = value.to(accumulate_dtype(x.dtype))
    return wide if x.is_cuda and wide.is_contiguous(memory_format=torch.channels_last) else wide.contiguous()


def to_output(out: Tensor, x: Tensor) -> Tensor:
    """The result in the dtype that the caller expects: the input's, but autocast's on the GPU."""
    return out if x.is_cuda else out.to(x.dtype)


def widen(x: Tensor, *parameters: Tensor) -> list[Tensor]:
    """For a reference: the arguments in the dtype that sums are kept in, or as they are where autocast sees to it."""
    if not x.is_meta and torch.is_autocast_enabled(x.device.type):
        return [x, *parameters]
    return [tensor.to(accumulate_dtype(x.dtype)) for tensor in (x, *parameters)]


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """For a reference: autocast is off for the device of x; the meta device has none."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def last(x: Tensor) -> Tensor:
    """The same features with their channels last in memory; no copy where they lie so."""
    return x.contiguous(memory_format=torch.channels_last)


def dense(*tensors: Tensor) -> list[Tensor]:
    """The same images for a kernel that reads either layout: on the GPU all channels last if all lie so, else first."""
    if all(x.is_cuda and lies_last(x) for x in tensors):
        return list(tensors)
    return [x.contiguous() for x in tensors]


def lies_last(x: Tensor) -> bool:
    """Whether the channels lie last in memory, and not also first, as of one channel or one pixel."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def in_layout_of(x: Tensor, out: Tensor) -> Tensor:
    """Features whose channels lie last in memory as those of x lie: last too, else first, which costs a copy."""
    return out.contiguous() if x.is_contiguous() else out  # of one channel or one pixel both are true


def empty_beside(x: Tensor, channels: int) -> Tensor:
    """Room for [N, channels, H, W] in the dtype, on the device and in the layout of x."""
    layout = torch.channels_last if lies_last(x) else torch.contiguous_format
    return torch.empty((x.shape[0], channels, *x.shape[2:]), dtype=x.dtype, device=x.device, memory_format=layout)
