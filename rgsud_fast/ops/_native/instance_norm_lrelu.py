"""instance_norm_lrelu by csrc/cpu/instance_norm_lrelu.h."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _C, address, dtype_name, planes, threads


def forward(x: Tensor, slope: float, eps: float) -> tuple[Tensor]:
    """lrelu((x - mean) / sqrt(var + eps)) of each plane, and nothing for the way back."""
    out = torch.empty_like(x)
    _C.instance_norm_lrelu_forward_cpu(dtype_name(x), address(x), address(out), *planes(x), slope, eps, threads())
    return (out,)


def backward(v_out: Tensor, x: Tensor, slope: float, eps: float) -> Tensor:
    """Gradient at x."""
    v_out, v_x = v_out.contiguous(), torch.empty_like(x)
    tensors = address(v_out), address(x), address(v_x)
    _C.instance_norm_lrelu_backward_cpu(dtype_name(x), *tensors, *planes(x), slope, eps, threads())
    return v_x
