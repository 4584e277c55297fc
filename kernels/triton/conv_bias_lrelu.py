"""conv_bias_lrelu on the GPU: the library's convolution, and one Triton pass for all that stands around it.

Forward that is bias, LeakyReLU, residual and what tells the sign; backward the gradient before the activation and the
sum of the bias. `ops/_convolutions.py` says where our own implicit GEMM, which needs neither pass, takes the library's
place. Everything is rows of channels, [N * H * W, C], as channels-last images lie. Compiled for sm_90 and run by the
interpreter; not yet measured on a GPU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rgsud_fast.ops._convolutions import takes_own
from rgsud_fast.ops._layout import in_layout_of, last, without_autocast
from rgsud_fast.ops._step_weights import owe, owe_sum, rounded

from . import implicit_gemm
from ._launch import accumulator, on_device

_ELEMENTS = 2048  # per program of the pass forward: 16 a thread
_ROWS = 1024  # pixels per program of the pass backward


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, slope: float, residual: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """lrelu(conv(x) + bias) (+ residual); and what tells the sign before the activation, which a residual hides."""
    if takes_own("forward", x, weight):
        return implicit_gemm.forward(x, weight, bias, slope, residual)
    with without_autocast(x):
        before = last(torch.conv2d(last(x), _low(weight, x), None, padding=weight.shape[2] // 2))
    sign = None if residual is None else torch.empty_like(before, dtype=torch.uint8)
    _epilogue(before, bias, slope, None if residual is None else last(residual), sign)
    out = in_layout_of(x, before)
    return out, out if sign is None else in_layout_of(x, sign)


def backward(
    v_out: Tensor,
    x: Tensor,
    sign: Tensor,
    weight: Tensor,
    slope: float,
    wants_x: bool = True,
    v_residual: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients at x (None unless asked for; v_residual is added to it), weight and bias.

    Of a training step's weights, and of `bias` where given, they may be None: owed, see ops/_step_weights.py.
    """
    own_x, own_weight = wants_x and takes_own("at_x", x, weight), takes_own("at_weight", x, weight)
    if own_weight and (own_x or not wants_x):  # these go through the activation as they load
        parts = _through_activation(v_out, sign, slope, weight.dtype, write=False)[1]
        v_before, more = v_out, None if slope == 1 else sign
    else:
        v_before, parts = _through_activation(v_out, sign, slope, weight.dtype)
        more = None
    v_x, v_weight = at_inputs(v_before, more, x, weight, slope, wants_x, True, v_residual)
    return v_x, owe(weight, v_weight), owe_sum(bias, parts)


def at_inputs(
    v_before: Tensor,
    sign: Tensor | None,
    x: Tensor,
    weight: Tensor,
    slope: float,
    wants_x: bool,
    wants_weight: bool,
    v_residual: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """Of the gradient before the activation those at x, with v_residual added to it, and at the weights, of any dtype.

    With sign it is the one after the activation, which only our own convolution takes.
    """
    own_x, own_weight = wants_x and takes_own("at_x", x, weight), wants_weight and takes_own("at_weight", x, weight)
    v_x = implicit_gemm.at_x(v_before, sign, x, weight, slope, v_residual) if own_x else None
    v_weight = implicit_gemm.at_weight(v_before, sign, x, weight, slope) if own_weight else None
    rest = [wants_x and not own_x, wants_weight and not own_weight]
    if any(rest):
        pad = weight.shape[2] // 2
        with without_autocast(x):
            found_x, found_weight, _ = torch.ops.aten.convolution_backward(
                v_before, last(x), _low(weight, x), None,
                [1, 1], [pad, pad], [1, 1], False, [0, 0], 1, [*rest, False],
            )  # fmt: skip
        if rest[0]:
            v_x = in_layout_of(x, found_x if v_residual is None else found_x.add_(v_residual))
        if rest[1]:
            v_weight = found_weight
    return v_x, v_weight


@triton.jit
def epilogue_kernel(
    out_ptr,  # [pixels, D]: the convolution, overwritten by the result
    bias_ptr,  # [D]
    residual_ptr,  # as out
    sign_ptr,  # as out, uint8
    elements,
    CHANNELS: tl.constexpr,
    SLOPE: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    first = tl.program_id(0).to(tl.int64) * BLOCK
    place = tl.arange(0, BLOCK)
    inside = place < elements - first
    # Where the first channel is known to be 0, the loads of the bias are known to be wide.
    first_d = 0 if BLOCK % CHANNELS == 0 else (first % CHANNELS).to(tl.int32)
    d = (first_d + place) % CHANNELS
    before = tl.load(out_ptr + first + place, mask=inside, other=0.0).to(ACC) + tl.load(bias_ptr + d).to(ACC)
    out = before
    if SLOPE != 1:
        out = tl.where(before > 0, before, before * SLOPE)
    if HAS_RESIDUAL:
        tl.store(sign_ptr + first + place, (before > 0).to(tl.uint8), mask=inside)
        out += tl.load(residual_ptr + first + place, mask=inside, other=0.0).to(ACC)
    tl.store(out_ptr + first + place, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["pixels"])
def activation_kernel(
    v_out_ptr,  # [pixels, D]
    sign_ptr,  # as v_out; positive where the activation's input was
    v_before_ptr,  # as v_out
    partials_ptr,  # [programs, D]: of v_bias
    pixels,
    ROWS: tl.constexpr,  # pixels of a program
    CHANNELS: tl.constexpr,
    SLOPE: tl.constexpr,  # 1: there is nothing to do but the sums
    WRITE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    first = tl.program_id(0).to(tl.int64) * ROWS
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    acc: tl.constexpr = partials_ptr.dtype.element_ty
    start = first * CHANNELS
    sums = tl.zeros((BLOCK_P, BLOCK_D), dtype=acc)
    for begin in range(0, ROWS, BLOCK_P):
        row = begin + tl.arange(0, BLOCK_P)
        at = row[:, None] * CHANNELS + d[None, :]
        mask = (row < pixels - first)[:, None] & (d < CHANNELS)[None, :]
        v = tl.load(v_out_ptr + start + at, mask=mask, other=0.0).to(acc)
        if SLOPE != 1:
            sign = tl.load(sign_ptr + start + at, mask=mask, other=0)
            v = tl.where(sign > 0, v, v * SLOPE)
        if WRITE:
            tl.store(v_before_ptr + start + at, v.to(v_before_ptr.dtype.element_ty), mask=mask)
        sums += v
    to = partials_ptr + tl.program_id(0).to(tl.int64) * CHANNELS + d
    tl.store(to, tl.sum(sums, axis=0), mask=d < CHANNELS)


def _epilogue(out: Tensor, bias: Tensor, slope: float, residual: Tensor | None, sign: Tensor | None) -> None:
    with on_device(out):
        epilogue_kernel[(triton.cdiv(out.numel(), _ELEMENTS),)](
            out, bias, residual, sign, out.numel(), CHANNELS=out.shape[1], SLOPE=slope,
            HAS_RESIDUAL=residual is not None, ACC=accumulator(out), BLOCK=_ELEMENTS,
        )  # fmt: skip


def _through_activation(
    v_out: Tensor, sign: Tensor, slope: float, wide: torch.dtype, write: bool = True
) -> tuple[Tensor, Tensor]:
    """The gradient before the activation, channels last and written where there is one, and its sums, [parts, D]."""
    write = write and slope != 1
    v_out, sign = last(v_out), last(sign)
    channels = v_out.shape[1]
    pixels = v_out.numel() // channels
    block_d = min(64, triton.next_power_of_2(channels))
    programs = triton.cdiv(pixels, _ROWS)
    v_before = torch.empty_like(v_out) if write else v_out
    partials = v_out.new_empty(programs, channels, dtype=wide)
    with on_device(v_out):
        activation_kernel[(programs, triton.cdiv(channels, block_d))](
            v_out, sign, v_before, partials, pixels, ROWS=_ROWS, CHANNELS=channels, SLOPE=slope, WRITE=write,
            BLOCK_P=2048 // block_d, BLOCK_D=block_d,
        )  # fmt: skip
    return v_before, partials


def _low(weight: Tensor, x: Tensor) -> Tensor:
    """The weights as the library's convolution of x takes them."""
    return last(rounded(weight, x.dtype))
