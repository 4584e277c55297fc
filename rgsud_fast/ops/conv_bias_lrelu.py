"""The convolution of the generator and the U-Net, with its bias and LeakyReLU in the same pass."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import _backends as backends
from . import _check as check
from ._layout import parameter, to_output, to_working, widen

WIDEST = 32  # channels; at 64 the CPU kernel has 0.95 of PyTorch's speed, residual_block 0.81 (bench/results)


def conv_bias_lrelu(x: Tensor, weight: Tensor, bias: Tensor, slope: float = 1.0) -> Tensor:
    """Convolve with a border of zeros that keeps the size, add the bias, apply LeakyReLU.

    Equivalent to F.leaky_relu(F.conv2d(x, weight, bias, padding="same"), slope) for odd square windows.

    Args:
        x: features, [N, C, H, W]. Differentiable once.
        weight: [D, C, K, K], K odd. Differentiable once.
        bias: [D]. Differentiable once.
        slope: of LeakyReLU below 0, positive; 1 is no activation.

    Returns:
        [N, D, H, W], dtype of x, or autocast's on the GPU. On the CPU half precision is computed in float32.

    Raises:
        TypeError, ValueError: an argument is not such a tensor, or slope is not positive.
    """
    check.image("x", x)
    check_convolution(x, weight, bias, slope)
    if not (impl := backends.choose("conv_bias_lrelu", x)) or prefers_pytorch(x, weight):
        return reference(x, weight, bias, slope)
    inputs = to_working(x), parameter(x, weight), parameter(x, bias), slope
    if impl is backends.COMPILED:
        return to_output(torch.ops.rgsud_fast.conv_bias_lrelu(*inputs), x)
    return to_output(_ConvBiasLrelu.apply(*inputs, impl), x)


def reference(x: Tensor, weight: Tensor, bias: Tensor, slope: float = 1.0) -> Tensor:
    """The definition, in plain PyTorch."""
    wide_x, weight, bias = widen(x, weight, bias)
    out = F.conv2d(wide_x, weight, bias, padding=int(weight.shape[-1]) // 2)  # an int also where torch.jit traces
    out = out if slope == 1 else F.leaky_relu(out, slope)
    return out.to(x.dtype) if wide_x.dtype != x.dtype else out


def prefers_pytorch(x: Tensor, weight: Tensor) -> bool:
    """Whether `auto` takes PyTorch's own convolution on the CPU: of many channels it is the faster one."""
    return not x.is_cuda and min(weight.shape[:2]) > WIDEST and backends.requested_backend() == "auto"


def check_convolution(x: Tensor, weight: Tensor, bias: Tensor, slope: float, suffix: str = "") -> None:
    """Demand weights that fit x; `suffix` is appended to the argument names in messages.

    Raises:
        TypeError: they are no tensors, or slope no number.
        ValueError: they do not; the message shows what was got.
    """
    check.tensor(f"weight{suffix}", weight)
    check.tensor(f"bias{suffix}", bias)
    if (
        weight.ndim != 4
        or weight.shape[1] != x.shape[1]
        or weight.shape[2] != weight.shape[3]
        or weight.shape[2] % 2 == 0
    ):
        raise ValueError(f"weight{suffix} must be [D, {x.shape[1]}, K, K] with K odd, got {list(weight.shape)}")
    if bias.shape != weight.shape[:1]:
        raise ValueError(f"bias{suffix} must be [{weight.shape[0]}], got {list(bias.shape)}")
    if {weight.device, bias.device} != {x.device}:
        raise ValueError(
            f"weight{suffix} and bias{suffix} must be on {x.device}, got {weight.device} and {bias.device}"
        )
    if not slope > 0:
        raise ValueError(f"slope must be positive, got {slope}")  # else the sign of the output tells nothing
    check.number("slope", slope)


class _ConvBiasLrelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, slope: float, impl: ModuleType) -> Tensor:
        out, sign = impl.forward(x, weight, bias, slope)
        ctx.save_for_backward(x, sign, weight, bias)
        ctx.slope, ctx.impl = slope, impl
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_out: Tensor) -> tuple[Tensor | None, ...]:
        x, sign, weight, bias = ctx.saved_tensors
        at_x = ctx.needs_input_grad[0]
        return *ctx.impl.backward(v_out, x, sign, weight, ctx.slope, at_x, bias=bias), None, None
