"""layernorm2d by csrc/cpu/layernorm2d.h; on the GPU the op is Triton's."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _C, address, dtype_name, threads


def forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias."""
    wide = x.to(weight.dtype)
    out = torch.empty_like(wide)
    tensors = [address(tensor) for tensor in (wide, weight, bias, out)]
    _C.layernorm2d_forward_cpu(dtype_name(wide), *tensors, *_sizes(x), eps, threads())
    return out.to(x.dtype)


def backward(v_out: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients at x, weight and bias."""
    wide, v_out = x.to(weight.dtype), v_out.to(weight.dtype)
    v_x, v_weight, v_bias = torch.empty_like(wide), torch.empty_like(weight), torch.empty_like(weight)
    tensors = [address(tensor) for tensor in (v_out, wide, weight, v_x, v_weight, v_bias)]
    _C.layernorm2d_backward_cpu(dtype_name(wide), *tensors, *_sizes(x), eps, threads())
    return v_x.to(x.dtype), v_weight, v_bias


def _sizes(x: Tensor) -> tuple[int, int, int]:
    images, channels, height, width = x.shape
    return images, channels, height * width
