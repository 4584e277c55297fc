"""NAFNet's block, the derainer's only one."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import _backends as backends
from . import _check as check
from ._layout import parameter, to_output, to_working, widen
from ._naf_weights import NafWeights
from .layernorm2d import layernorm2d
from .layernorm2d import reference as layernorm2d_reference

EPS = 1e-6  # of both normalisations


def global_mean(u: Tensor) -> Tensor:
    """The mean over pixels, [N, C, 1, 1]."""
    return F.adaptive_avg_pool2d(u, 1)


def nafblock(x: Tensor, weights: NafWeights) -> Tensor:
    """Apply the nonlinear activation free block (Chen et al., ECCV 2022).

    u = gate(depthwise(expand1(norm1(x)))), y = x + beta * project1(u * attention(mean(u))),
    y + gamma * project2(gate(expand2(norm2(y)))); a gate multiplies the two halves of the channels.

    Args:
        x: features, [N, C, H, W]. Differentiable once.
        weights: the block's parameters, shapes as in NafWeights. Differentiable once.

    Returns:
        [N, C, H, W], dtype of x, or autocast's on the GPU. On the CPU half precision is computed in float32.

    Raises:
        TypeError, ValueError: an argument is not such a tensor.
    """
    check.image("x", x)
    _check_weights(x, weights)
    impl = backends.choose("nafblock", x)
    if not impl:
        return reference(x, weights)
    if impl is backends.COMPILED or x.shape[1] > getattr(impl, "MOST_CHANNELS", x.shape[1]):
        return compose(x, weights)
    inputs = to_working(x), *(parameter(x, weight) for weight in weights)
    return to_output(_NafBlock.apply(impl, *inputs), x)


def reference(x: Tensor, weights: NafWeights) -> Tensor:
    """The definition, in plain PyTorch."""
    return compose(x, weights, norm=layernorm2d_reference)


def compose(
    narrow: Tensor,
    weights: NafWeights,
    mean: Callable[[Tensor], Tensor] = global_mean,
    norm: Callable[..., Tensor] = layernorm2d,
) -> Tensor:
    """The block as a composition of other ops, with its mean and its normalisation to choose."""
    x, *wide = widen(narrow, *weights)
    w = NafWeights(*wide)
    u = F.conv2d(norm(x, w.norm1_weight, w.norm1_bias, EPS), w.expand1, w.expand1_bias)
    u = _gate(F.conv2d(u, w.depthwise, w.depthwise_bias, padding=1, groups=u.shape[1]))
    u = u * F.conv2d(mean(u), w.attention, w.attention_bias)
    y = x + w.beta * F.conv2d(u, w.project1, w.project1_bias)
    v = _gate(F.conv2d(norm(y, w.norm2_weight, w.norm2_bias, EPS), w.expand2, w.expand2_bias))
    out = y + w.gamma * F.conv2d(v, w.project2, w.project2_bias)
    return out.to(narrow.dtype) if x.dtype != narrow.dtype else out


def _gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=1)
    return a * b


def _check_weights(x: Tensor, weights: NafWeights) -> None:
    if not isinstance(weights, NafWeights):
        raise TypeError(f"weights must be NafWeights, got {type(weights).__name__}")
    channels = x.shape[1]
    for name, weight in zip(NafWeights._fields, weights, strict=True):
        check.tensor(name, weight)
        rows = 2 * channels if name.startswith(("expand", "depthwise")) else channels
        shape: tuple[int, ...]
        if name in ("beta", "gamma"):
            shape = (1, channels, 1, 1)
        elif name.endswith(("_weight", "_bias")):
            shape = (rows,)
        else:
            shape = (rows, 1, 3, 3) if name == "depthwise" else (rows, channels, 1, 1)
        if weight.shape != shape or weight.device != x.device:
            raise ValueError(f"{name} must be {list(shape)} on {x.device}, got {list(weight.shape)} on {weight.device}")


class _NafBlock(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, impl: ModuleType, x: Tensor, *weights: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # as in the backward; x has its dtype already
            out, *kept = impl.forward(x, weights, EPS)
        ctx.save_for_backward(x, *kept, *weights)
        ctx.impl = impl
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_out: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        kept, weights = saved[: -len(NafWeights._fields)], saved[-len(NafWeights._fields) :]
        return None, *ctx.impl.backward(v_out, x, *kept, weights, EPS)
