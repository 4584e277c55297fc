"""The depth-wise convolution of the derainers with what follows it: a gate of the channels' halves, and a share."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from . import _backends as backends
from . import _check as check
from ._layout import parameter, to_output, to_working, widen

Gate = Literal["none", "product", "gelu"]
GATES: tuple[Gate, ...] = ("none", "product", "gelu")


def gated_dconv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, gate: Gate = "product", scale: Tensor | None = None
) -> Tensor:
    """Convolve each channel by itself with a border of zeros that keeps the size, then gate its halves.

    With a and b the halves of the channels of conv2d(x, weight, bias, padding="same", groups=channels): scale times
    a b (`product`), gelu(a) b (`gelu`, the exact one: Restormer's feed-forward), or both as they are (`none`).

    Args:
        x: features, [N, C, H, W], C even where there is a gate. Differentiable once.
        weight: [C, 1, K, K], K odd. Differentiable once.
        bias: [C]. Differentiable once.
        gate: none, product or gelu.
        scale: of each image, [N]; None: 1. Differentiable once.

    Returns:
        [N, C / 2, H, W], or C channels without a gate; dtype of x, or autocast's on the GPU. On the CPU half precision
        is computed in float32.

    Raises:
        TypeError, ValueError: an argument is not such a tensor, or there is no such gate.
    """
    check.image("x", x)
    _check(x, weight, bias, gate, scale)
    impl = backends.choose("gated_dconv", x)
    if not impl or impl is backends.COMPILED or weight.shape[-1] not in impl.TAPS or _prefers_pytorch(x, gate, scale):
        return reference(x, weight, bias, gate, scale)
    parameters = [None if value is None else parameter(x, value) for value in (weight, bias, scale)]
    return to_output(_GatedDconv.apply(to_working(x), *parameters, gate, impl), x)


def reference(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, gate: Gate = "product", scale: Tensor | None = None
) -> Tensor:
    """The definition, in plain PyTorch."""
    wide, weight, *rest = widen(x, weight, *(value for value in (bias, scale) if value is not None))
    bias = None if bias is None else rest.pop(0)
    out = F.conv2d(wide, weight, bias, padding=int(weight.shape[-1]) // 2, groups=int(x.shape[1]))
    if gate != "none":
        a, b = out.chunk(2, 1)
        out = (F.gelu(a) if gate == "gelu" else a) * b
    if scale is not None:
        out = out * rest[0].to(out.dtype)[:, None, None, None]
    return out.to(x.dtype) if wide.dtype != x.dtype else out


def _prefers_pytorch(x: Tensor, gate: str, scale: Tensor | None) -> bool:
    """Whether `auto` takes PyTorch's own on the GPU: with nothing behind the convolution a kernel saves no byte."""
    return x.is_cuda and gate == "none" and scale is None and backends.requested_backend() == "auto"


def dconv(x: Tensor, layer: nn.Conv2d, gate: Gate = "none", scale: Tensor | None = None) -> Tensor:
    """`gated_dconv` by the weights of a layer of PyTorch's."""
    return gated_dconv(x, layer.weight, layer.bias, gate, scale)


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, gate: str, scale: Tensor | None) -> None:
    if gate not in GATES:
        raise ValueError(f"gate must be one of {', '.join(GATES)}, got {gate!r:.40}")
    channels = x.shape[1]
    if gate != "none" and channels % 2:
        raise ValueError(f"x must have an even number of channels for a gate, got {list(x.shape)}")
    check.tensor("weight", weight)
    side = weight.shape[-1] if weight.ndim else 0
    if weight.shape != (channels, 1, side, side) or side % 2 == 0:
        raise ValueError(f"weight must be [{channels}, 1, K, K] with K odd, got {list(weight.shape)}")
    for name, value, wanted in (("bias", bias, channels), ("scale", scale, x.shape[0])):
        if value is not None:
            check.tensor(name, value)
            if value.shape != (wanted,):
                raise ValueError(f"{name} must be [{wanted}], got {list(value.shape)}")
    for name, value in (("weight", weight), ("bias", bias), ("scale", scale)):
        if value is not None and value.device != x.device:
            raise ValueError(f"{name} must be on {x.device}, got {value.device}")


class _GatedDconv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor | None, gate: str, impl: ModuleType
    ) -> Tensor:
        ctx.save_for_backward(x, weight, bias, scale)
        ctx.gate, ctx.impl = gate, impl
        return impl.forward(x, weight, bias, scale, gate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_out: Tensor) -> tuple[Tensor | None, ...]:
        return *ctx.impl.backward(v_out, *ctx.saved_tensors, ctx.gate), None, None
