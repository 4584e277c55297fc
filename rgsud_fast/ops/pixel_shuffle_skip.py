"""The derainer's way up: pixels out of channels, and the skip connection added."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import _backends as backends
from . import _check as check
from ._layout import to_output, to_working


def pixel_shuffle_skip(x: Tensor, skip: Tensor) -> Tensor:
    """Double the size by taking four channels for one, and add features of that size.

    Equivalent to F.pixel_shuffle(x, 2) + skip. On the GPU that is one pass, which keeps the channels last in memory;
    on the CPU it is PyTorch's, also where `native` is asked for.

    Args:
        x: features, [N, 4C, H, W]. Differentiable once.
        skip: what is added, [N, C, 2H, 2W]. Differentiable once.

    Returns:
        [N, C, 2H, 2W], dtype as of the sum, or autocast's on the GPU.

    Raises:
        TypeError, ValueError: an argument is not such a tensor.
    """
    check.image("x", x)
    check.image("skip", skip)
    images, channels, height, width = x.shape
    wanted = (images, channels // 4, 2 * height, 2 * width)
    if channels % 4 or skip.shape != wanted or skip.device != x.device:
        raise ValueError(
            f"skip must be [N, C, 2H, 2W] of x, [N, 4C, H, W] = {list(x.shape)} on {x.device}, "
            f"got {list(skip.shape)} on {skip.device}"
        )
    if not x.is_cuda and backends.requested_backend() == "native":
        return reference(x, skip)
    if not (impl := backends.choose("pixel_shuffle_skip", x)) or impl is backends.COMPILED:
        return reference(x, skip)  # torch.compile fuses it by itself
    x, skip = to_working(x), to_working(skip)
    dtype = torch.promote_types(x.dtype, skip.dtype)
    return to_output(_PixelShuffleSkip.apply(x.to(dtype), skip.to(dtype), impl), skip)


def reference(x: Tensor, skip: Tensor) -> Tensor:
    """The definition, in plain PyTorch."""
    return F.pixel_shuffle(x, 2) + skip


class _PixelShuffleSkip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, skip: Tensor, impl: ModuleType) -> Tensor:
        ctx.impl = impl
        return impl.forward(x, skip)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_out: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.impl.backward(v_out) if ctx.needs_input_grad[0] else None, v_out, None
