"""LayerNorm2d: the derainer's normalisation, over the channels of each pixel."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import _backends as backends
from . import _check as check
from ._layout import without_autocast


def layernorm2d(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-6) -> Tensor:
    """Normalise each pixel over its channels, then scale and shift every channel.

    (x - mean) / sqrt(var + eps) * weight + bias, mean and biased variance over C (NAFNet, ECCV 2022).

    Args:
        x: features, [N, C, H, W]. Differentiable once.
        weight: scale of each channel, [C]. Differentiable once.
        bias: shift of each channel, [C]. Differentiable once.
        eps: added to the variance.

    Returns:
        The normalised features, shape and dtype of x. Half precision is computed in float32.

    Raises:
        TypeError, ValueError: an argument is not such a tensor.
    """
    check.image("x", x)
    check.number("eps", eps)
    for name, value in (("weight", weight), ("bias", bias)):
        check.tensor(name, value)
        if value.shape != x.shape[1:2] or value.device != x.device:
            raise ValueError(
                f"{name} must be [C] = {list(x.shape[1:2])} on {x.device}, got {list(value.shape)} on {value.device}"
            )
    if not (impl := backends.choose("layernorm2d", x)):
        return reference(x, weight, bias, eps)
    wide = check.accumulate_dtype(x.dtype)
    x, weight, bias = x.contiguous(), weight.to(wide).contiguous(), bias.to(wide).contiguous()
    if impl is backends.COMPILED:
        return torch.ops.rgsud_fast.layernorm2d(x, weight, bias, eps)
    return _LayerNorm2d.apply(x, weight, bias, eps, impl)


def reference(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-6) -> Tensor:
    """The definition, in plain PyTorch."""
    with without_autocast(x):
        wide = x.to(check.accumulate_dtype(x.dtype))
        centred = wide - wide.mean(1, keepdim=True)
        normal = centred * torch.rsqrt(centred.square().mean(1, keepdim=True) + eps)
        return (normal * weight.to(wide)[:, None, None] + bias.to(wide)[:, None, None]).to(x.dtype)


class _LayerNorm2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, impl: ModuleType) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.eps, ctx.impl = eps, impl
        return impl.forward(x, weight, bias, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_out: Tensor) -> tuple[Tensor | None, ...]:
        return *ctx.impl.backward(v_out.contiguous(), *ctx.saved_tensors, ctx.eps), None, None
