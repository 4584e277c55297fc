"""The library's convolution, also transposed, with its weights as a training step rounds them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ._layout import last, to_working, without_autocast
from ._step_weights import in_step, owe, rounded


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, padding: int = 0, transposed: bool = False
) -> Tensor:
    """F.conv2d(x, weight, bias, stride, padding), or F.conv_transpose2d; in a step of half precision with fewer passes.

    Args:
        x: features, [N, C, H, W]. There differentiable once.
        weight: [D, C, K, K], transposed [C, D, K, K]. There differentiable once.
        bias: [D], or None. There differentiable once.
        stride, padding: of both axes.
        transposed: whether it is the one of the gradient.

    Returns:
        [N, D, H, W] of the new size.
    """
    if in_step() and x.is_cuda and torch.is_autocast_enabled("cuda"):
        found: Tensor = _Convolve.apply(to_working(x), weight, bias, stride, padding, transposed)
        return found
    if transposed:
        return F.conv_transpose2d(x, weight, bias, stride, padding)
    return F.conv2d(x, weight, bias, stride, padding)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, transposed: bool
    ) -> Tensor:
        how = [stride] * 2, [padding] * 2, [1, 1], transposed, [0, 0], 1
        ctx.how = how
        ctx.save_for_backward(x, weight, bias)
        low_bias = None if bias is None else rounded(bias, x.dtype)
        with without_autocast(x):
            return torch.ops.aten.convolution(x, last(rounded(weight, x.dtype)), low_bias, *how)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_out: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:3])
        sizes = None if bias is None else list(bias.shape)
        with without_autocast(x):
            v_x, v_weight, v_bias = torch.ops.aten.convolution_backward(
                last(v_out), x, last(rounded(weight, x.dtype)), sizes, *ctx.how, wanted
            )
        more = None if bias is None else owe(bias, v_bias if wanted[2] else None)
        return v_x if wanted[0] else None, owe(weight, v_weight if wanted[1] else None), more, None, None, None
