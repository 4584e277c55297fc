"""residual_block by csrc/cpu/conv.h: each convolution with its activation, and the sum, in one pass."""

from __future__ import annotations

from torch import Tensor

from . import conv_bias_lrelu as conv


def forward(
    x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    """x + lrelu(conv2(lrelu(conv1(x)))); the inner activation, and where the outer one's input is positive."""
    inner, _ = conv.forward(x, weight1, bias1, slope)
    out, positive = conv.forward(inner, weight2, bias2, slope, residual=x)
    return out, inner, positive


def backward(
    v_out: Tensor, x: Tensor, inner: Tensor, positive: Tensor, weight1: Tensor, weight2: Tensor, slope: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients at x, weight1, bias1, weight2 and bias2."""
    v_inner, v_weight2, v_bias2 = conv.backward(v_out, inner, positive, weight2, slope)
    v_x, v_weight1, v_bias1 = conv.backward(v_inner, x, inner, weight1, slope, v_residual=v_out)
    return v_x, v_weight1, v_bias1, v_weight2, v_bias2
