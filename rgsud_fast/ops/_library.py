"""The ops as torch.compile sees them: the same forward and backward, each with a fake kernel. Eager code passes by.
nafblock and instance_norm_lrelu are not among them: compiled, they are plain PyTorch, which the compiler fuses.

The backend is chosen when the compiled code runs; a graph compiled under `reference` holds the plain PyTorch instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import _backends as backends
from ._layout import empty_beside, to_working
from .residual_block import backward as block_backward
from .residual_block import forward as block_forward

_LIBRARY = torch.library.Library("rgsud_fast", "DEF")


def _enter(schema: str, run: Callable[..., Any], fake: Callable[..., Any]) -> None:
    name = schema.partition("(")[0]
    _LIBRARY.define(schema)
    for device in ("CPU", "CUDA"):
        _LIBRARY.impl(name, run, device)
    torch.library.register_fake(f"rgsud_fast::{name}", fake, lib=_LIBRARY)


def _autograd(name: str, backward: Callable[..., Any], setup: Callable[..., Any]) -> None:
    torch.library.register_autograd(f"rgsud_fast::{name}", backward, setup_context=setup, lib=_LIBRARY)


# high_pass
def _high_pass(image: Tensor) -> Tensor:
    return backends.kernel("high_pass", image).forward(image.contiguous())


def _high_pass_backward(v_detail: Tensor) -> Tensor:
    return backends.kernel("high_pass", v_detail).backward(v_detail.contiguous())


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


_enter("high_pass(Tensor image) -> Tensor", _high_pass, _like)
_enter("high_pass_backward(Tensor v_detail) -> Tensor", _high_pass_backward, _like)
_autograd("high_pass", lambda ctx, v: torch.ops.rgsud_fast.high_pass_backward(v), lambda ctx, inputs, output: None)


# ssim: a gradient nobody asked for is an empty tensor
def _ssim(x: Tensor, y: Tensor, at_x: bool, at_y: bool) -> tuple[Tensor, Tensor, Tensor]:
    value, v_x, v_y = backends.kernel("ssim", x).forward(x.contiguous(), y.contiguous(), at_x, at_y)
    empty = x.new_empty(0)
    return value, empty if v_x is None else v_x, empty.clone() if v_y is None else v_y


def _ssim_fake(x: Tensor, y: Tensor, at_x: bool, at_y: bool) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(()), _like(x) if at_x else x.new_empty(0), _like(y) if at_y else x.new_empty(0)


def _ssim_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.at_x, ctx.at_y = inputs[2:]
    ctx.save_for_backward(*output[1:])


def _ssim_backward(ctx: Any, v_value: Tensor, _v_x: Tensor, _v_y: Tensor) -> tuple[Tensor | None, ...]:
    v_x, v_y = ctx.saved_tensors
    return v_x * v_value if ctx.at_x else None, v_y * v_value if ctx.at_y else None, None, None


_enter("ssim(Tensor x, Tensor y, bool at_x, bool at_y) -> (Tensor, Tensor, Tensor)", _ssim, _ssim_fake)
_autograd("ssim", _ssim_backward, _ssim_setup)


# layernorm2d
def _layernorm2d(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return backends.kernel("layernorm2d", x).forward(x.contiguous(), weight, bias, eps)


def _layernorm2d_backward(v_out: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return backends.kernel("layernorm2d", x).backward(v_out.contiguous(), x.contiguous(), weight, eps)


def _layernorm2d_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight, _, ctx.eps = inputs
    ctx.save_for_backward(x, weight)


def _layernorm2d_autograd(ctx: Any, v_out: Tensor) -> tuple[Tensor | None, ...]:
    return *torch.ops.rgsud_fast.layernorm2d_backward(v_out, *ctx.saved_tensors, ctx.eps), None


_enter(
    "layernorm2d(Tensor x, Tensor weight, Tensor bias, float eps) -> Tensor",
    _layernorm2d,
    lambda x, weight, bias, eps: _like(x),
)
_enter(
    "layernorm2d_backward(Tensor v_out, Tensor x, Tensor weight, float eps) -> (Tensor, Tensor, Tensor)",
    _layernorm2d_backward,
    lambda v_out, x, weight, eps: (_like(x), _like(weight), _like(weight)),
)
_autograd("layernorm2d", _layernorm2d_autograd, _layernorm2d_setup)


# conv_bias_lrelu: a gradient at x is made whether asked for or not; without residual the output tells the sign
def _conv_bias_lrelu(x: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
    return backends.kernel("conv_bias_lrelu", x).forward(to_working(x), weight, bias, slope)[0]


def _conv_bias_lrelu_backward(
    v_out: Tensor, x: Tensor, out: Tensor, weight: Tensor, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    conv = backends.kernel("conv_bias_lrelu", x)
    v_x, v_weight, v_bias = conv.backward(v_out, to_working(x), to_working(out), weight, slope)
    return v_x, v_weight.contiguous(), v_bias


def _conv_bias_lrelu_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight, _, ctx.slope = inputs
    ctx.save_for_backward(x, output, weight)


def _conv_bias_lrelu_autograd(ctx: Any, v_out: Tensor) -> tuple[Tensor | None, ...]:
    return *torch.ops.rgsud_fast.conv_bias_lrelu_backward(v_out, *ctx.saved_tensors, ctx.slope), None


_enter(
    "conv_bias_lrelu(Tensor x, Tensor weight, Tensor bias, float slope) -> Tensor",
    _conv_bias_lrelu,
    lambda x, weight, bias, slope: empty_beside(x, weight.shape[0]),
)
_enter(
    "conv_bias_lrelu_backward(Tensor v_out, Tensor x, Tensor out, Tensor weight, float slope)"
    " -> (Tensor, Tensor, Tensor)",
    _conv_bias_lrelu_backward,
    lambda v_out, x, out, weight, slope: (
        empty_beside(x, x.shape[1]), _like(weight), weight.new_empty(weight.shape[0]),
    ),
)  # fmt: skip
_autograd("conv_bias_lrelu", _conv_bias_lrelu_autograd, _conv_bias_lrelu_setup)


# residual_block
def _residual_block(
    x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, slope: float
) -> tuple[Tensor, Tensor, Tensor]:
    conv = backends.kernel("conv_bias_lrelu", x)
    return block_forward(conv, to_working(x), weight1, bias1, weight2, bias2, slope)


def _residual_block_backward(
    v_out: Tensor, x: Tensor, inner: Tensor, positive: Tensor, weight1: Tensor, weight2: Tensor, slope: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    conv = backends.kernel("conv_bias_lrelu", x)
    found = block_backward(conv, v_out, to_working(x), inner, positive, weight1, weight2, slope)
    return found[0], found[1].contiguous(), found[2], found[3].contiguous(), found[4]


def _residual_block_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight1, _, weight2, _, ctx.slope = inputs
    ctx.save_for_backward(x, *output[1:], weight1, weight2)


def _residual_block_autograd(
    ctx: Any, v_out: Tensor, _v_inner: Tensor, _v_positive: Tensor
) -> tuple[Tensor | None, ...]:
    return *torch.ops.rgsud_fast.residual_block_backward(v_out, *ctx.saved_tensors, ctx.slope), None


def _residual_block_fake(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    inner = empty_beside(x, x.shape[1])
    return empty_beside(x, x.shape[1]), inner, torch.empty_like(inner, dtype=torch.uint8)


_enter(
    "residual_block(Tensor x, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2, float slope)"
    " -> (Tensor, Tensor, Tensor)",
    _residual_block,
    _residual_block_fake,
)
_enter(
    "residual_block_backward(Tensor v_out, Tensor x, Tensor inner, Tensor positive, Tensor weight1, Tensor weight2,"
    " float slope) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _residual_block_backward,
    lambda v_out, x, inner, positive, weight1, weight2, slope: (
        empty_beside(x, x.shape[1]), _like(weight1), weight1.new_empty(weight1.shape[0]),
        _like(weight2), weight2.new_empty(weight2.shape[0]),
    ),
)  # fmt: skip
_autograd("residual_block", _residual_block_autograd, _residual_block_setup)
