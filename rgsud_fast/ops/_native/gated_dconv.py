"""gated_dconv by csrc/cpu/gated_dconv.h."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _C, address, dtype_name, threads

TAPS = (3, 5, 7)  # sides of windows that have a kernel


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor | None, gate: str) -> Tensor:
    """scale * gate(depthwise(x) + bias)."""
    out = x.new_empty(x.shape[0], x.shape[1] // (1 if gate == "none" else 2), *x.shape[2:])
    tensors = [address(tensor) for tensor in (x, weight, bias, scale, out)]
    _C.gated_dconv_forward_cpu(dtype_name(x), *tensors, [*x.shape, weight.shape[-1]], gate, threads())
    return out


def backward(
    v_out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor | None, gate: str
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients at x, weight, bias and scale; the convolution is made again, which costs less than to keep it."""
    v_out, v_x, v_weight = v_out.contiguous(), torch.empty_like(x), torch.empty_like(weight)
    v_bias, v_scale = (None if given is None else torch.empty_like(given) for given in (bias, scale))
    tensors = [address(tensor) for tensor in (v_out, x, weight, bias, scale, v_x, v_weight, v_bias, v_scale)]
    _C.gated_dconv_backward_cpu(dtype_name(x), *tensors, [*x.shape, weight.shape[-1]], gate, threads())
    return v_x, v_weight, v_bias, v_scale
