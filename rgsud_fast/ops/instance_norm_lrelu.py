"""The discriminator's instance normalisation, with the LeakyReLU that follows it."""

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

EPS = 1e-5


def instance_norm_lrelu(x: Tensor, slope: float = 0.2, eps: float = EPS) -> Tensor:
    """Normalise each channel of each image over its pixels, then apply LeakyReLU.

    Equivalent to F.leaky_relu(F.instance_norm(x, eps=eps), slope): biased variance, no scale and shift.

    Args:
        x: features, [N, C, H, W], more than one pixel. Differentiable once.
        slope: of LeakyReLU below 0.
        eps: added to the variance.

    Returns:
        [N, C, H, W], dtype of x, or autocast's on the GPU. Half precision is computed in float32.

    Raises:
        TypeError, ValueError: x is not such a tensor, slope or eps no finite number.
    """
    check.image("x", x)
    check.number("slope", slope)
    check.number("eps", eps)
    if x.shape[2] * x.shape[3] < 2:
        raise ValueError(f"x must have more than one pixel per channel, got {list(x.shape)}")
    if not (impl := backends.choose("instance_norm_lrelu", x)) or impl is backends.COMPILED:
        return reference(x, slope, eps)  # torch.compile fuses it by itself
    return to_output(_InstanceNormLrelu.apply(to_working(x), slope, eps, impl), x)


def reference(x: Tensor, slope: float = 0.2, eps: float = EPS) -> Tensor:
    """The definition, in plain PyTorch."""
    return F.leaky_relu(F.instance_norm(x, eps=eps), slope)


class _InstanceNormLrelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float, eps: float, impl: ModuleType) -> Tensor:
        out, *kept = impl.forward(x, slope, eps)
        ctx.save_for_backward(x, *kept)
        ctx.slope, ctx.eps, ctx.impl = slope, eps, impl
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_out: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.impl.backward(v_out, *ctx.saved_tensors, ctx.slope, ctx.eps), None, None, None
