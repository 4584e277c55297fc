"""The rain generator's residual block."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import _backends as backends
from . import _check as check
from .conv_bias_lrelu import check_convolution
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
        [N, C, H, W], dtype of x. On the CPU half precision is computed in float32.

    Raises:
        TypeError, ValueError: an argument is not such a tensor, or slope is not positive.
    """
    check.image("x", x)
    for names, weight, bias in (("1", weight1, bias1), ("2", weight2, bias2)):
        check_convolution(x, weight, bias, slope, names)
        if weight.shape[0] != x.shape[1]:
            raise ValueError(f"weight{names} must keep the {x.shape[1]} channels, got {list(weight.shape)}")
    if not (impl := backends.choose("residual_block", x)):
        return reference(x, weight1, bias1, weight2, bias2, slope)
    wide = check.accumulate_dtype(x.dtype)
    inputs = [tensor.to(wide).contiguous() for tensor in (x, weight1, bias1, weight2, bias2)]
    if impl is backends.COMPILED:
        return torch.ops.rgsud_fast.residual_block(*inputs, slope)[0].to(x.dtype)
    return _ResidualBlock.apply(*inputs, slope, impl).to(x.dtype)


def reference(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, slope: float = 0.2) -> Tensor:
    """The definition, in plain PyTorch."""
    return x + convolve(convolve(x, weight1, bias1, slope), weight2, bias2, slope)


class _ResidualBlock(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight1, bias1, weight2, bias2, slope, impl):
        out, inner, positive = impl.forward(x, weight1, bias1, weight2, bias2, slope)
        ctx.save_for_backward(x, inner, positive, weight1, weight2)
        ctx.slope, ctx.impl = slope, impl
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, v_out):
        return *ctx.impl.backward(v_out.contiguous(), *ctx.saved_tensors, ctx.slope), None, None
