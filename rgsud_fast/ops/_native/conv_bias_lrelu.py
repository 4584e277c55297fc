"""conv_bias_lrelu by csrc/cpu/conv_bias_lrelu.h; `residual_block` is made of the same two functions."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _C, address, dtype_name, threads


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, slope: float, residual: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """lrelu(conv(x) + bias) (+ residual); and what tells the sign before the activation, which a residual hides."""
    out = x.new_empty(x.shape[0], weight.shape[0], *x.shape[2:])
    positive = None if residual is None else torch.empty_like(out, dtype=torch.uint8)
    tensors = [address(tensor) for tensor in (x, weight, bias, residual, out, positive)]
    _C.conv_bias_lrelu_forward_cpu(dtype_name(x), *tensors, slope, _sizes(x, weight), threads())
    return out, out if positive is None else positive


def backward(
    v_out: Tensor,
    x: Tensor,
    sign: Tensor,
    weight: Tensor,
    slope: float,
    at_x: bool = True,
    v_residual: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Gradients at x (None unless asked for; v_residual is added to it), weight and bias, which is not read."""
    v_out, v_x = v_out.contiguous(), torch.empty_like(x) if at_x else None
    v_residual = None if v_residual is None else v_residual.contiguous()
    v_weight, v_bias = torch.empty_like(weight), weight.new_empty(weight.shape[0])
    if slope == 1:
        sign = v_out  # nothing asks for the sign: what is read anyway stands for it
    out, positive = (None, sign) if sign.dtype == torch.uint8 else (sign, None)
    tensors = (v_out, x, out, positive, weight, v_x, v_residual, v_weight, v_bias)
    addresses = [address(tensor) for tensor in tensors]
    _C.conv_bias_lrelu_backward_cpu(dtype_name(x), *addresses, slope, _sizes(x, weight), threads())
    return v_x, v_weight, v_bias


def _sizes(x: Tensor, weight: Tensor) -> list[int]:
    images, channels, height, width = x.shape
    return [images, channels, weight.shape[0], height, width, weight.shape[2]]
