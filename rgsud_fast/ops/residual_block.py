"""The rain generator's residual block."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import _backends as backends
from . import _check as check
from ._layout import parameter, to_output, to_working
from .conv_bias_lrelu import check_convolution, prefers_pytorch
from .conv_bias_lrelu import reference as convolve


def residual_block(
    x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, slope: float = 0.2
) -> Tensor:
    """x + lrelu(conv2(lrelu(conv1(x)))): both activations before the addition, none after it (CSUD, CVPR 2025).

    Args:
        x: features, [N, C, H, W]. Differentiable once.
        weight1, weight2: [C, C, K, K], K odd, borders of zeros. Differentiable once.
        bias1, bias2: [C]. Differentiable once.
        slope: of LeakyReLU below 0, positive.

    Returns:
        [N, C, H, W], dtype of x, or autocast's on the GPU. On the CPU half precision is computed in float32.

    Raises:
        TypeError, ValueError: an argument is not such a tensor, or slope is not positive.
    """
    check.image("x", x)
    for suffix, weight, bias in (("1", weight1, bias1), ("2", weight2, bias2)):
        check_convolution(x, weight, bias, slope, suffix)
        if weight.shape[0] != x.shape[1]:
            raise ValueError(f"weight{suffix} must keep the {x.shape[1]} channels, got {list(weight.shape)}")
    if not (impl := backends.choose("conv_bias_lrelu", x)) or prefers_pytorch(x, weight1):
        return reference(x, weight1, bias1, weight2, bias2, slope)
    inputs = [to_working(x), *(parameter(x, value) for value in (weight1, bias1, weight2, bias2)), slope]
    if impl is backends.COMPILED:
        return to_output(torch.ops.rgsud_fast.residual_block(*inputs)[0], x)
    return to_output(_ResidualBlock.apply(*inputs, impl), x)


def reference(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, slope: float = 0.2) -> Tensor:
    """The definition, in plain PyTorch."""
    return x + convolve(convolve(x, weight1, bias1, slope), weight2, bias2, slope)


def forward(
    conv: ModuleType, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The block by a backend of conv_bias_lrelu: each convolution with its activation, and the sum, in one pass.

    Returns:
        The output; the inner activation; where the outer one's input is positive.
    """
    inner, _ = conv.forward(x, weight1, bias1, slope)
    out, positive = conv.forward(inner, weight2, bias2, slope, residual=x)
    return out, inner, positive


def backward(
    conv: ModuleType,
    v_out: Tensor,
    x: Tensor,
    inner: Tensor,
    positive: Tensor,
    weight1: Tensor,
    weight2: Tensor,
    slope: float,
    biases: Sequence[Tensor | None] = (None, None),
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients at x, weight1, bias1, weight2 and bias2; `biases` and None as in conv.backward."""
    v_inner, v_weight2, v_bias2 = conv.backward(v_out, inner, positive, weight2, slope, bias=biases[1])
    v_x, v_weight1, v_bias1 = conv.backward(v_inner, x, inner, weight1, slope, v_residual=v_out, bias=biases[0])
    return v_x, v_weight1, v_bias1, v_weight2, v_bias2


class _ResidualBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        slope: float,
        impl: ModuleType,
    ) -> Tensor:
        out, inner, positive = forward(impl, x, weight1, bias1, weight2, bias2, slope)
        ctx.save_for_backward(x, inner, positive, weight1, weight2, bias1, bias2)
        ctx.slope, ctx.impl = slope, impl
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_out: Tensor) -> tuple[Tensor | None, ...]:
        x, inner, positive, weight1, weight2, *biases = ctx.saved_tensors
        return *backward(ctx.impl, v_out, x, inner, positive, weight1, weight2, ctx.slope, biases), None, None
