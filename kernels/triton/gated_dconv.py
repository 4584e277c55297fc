"""Triton kernels of gated_dconv: a program has neighbouring pixels and some channels, of both halves where they gate.

Everything is rows of channels, which is how channels-last images lie. The backward makes the convolution again and
keeps the gradient there for a second pass, the convolution's adjoint; weights' gradients leave in parts.
Compiled for sm_80 to sm_90 and run by the interpreter; not yet measured on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from rgsud_fast.ops._layout import empty_beside, in_layout_of, last

from ._launch import on_device

TAPS = (3, 5, 7)  # sides of windows that have a kernel
_PIXELS, _CHANNELS = 128, 16  # of a program
_GATES = {"none": 0, "product": 1, "gelu": 2}
_SIZES = ["height", "width", "blocks"]  # one compilation serves all


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor | None, gate: str) -> Tensor:
    """scale * gate(depthwise(x) + bias)."""
    rows = last(x)
    grid, sizes, constants = _launch(rows, weight, gate)
    out = empty_beside(rows, sizes[-1])
    with on_device(x):
        gate_kernel[grid](rows, weight, bias, scale, out, *sizes, **constants)
    return in_layout_of(x, out)


def backward(
    v_out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor | None, gate: str
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients at x, weight, bias and scale."""
    rows, v_rows = last(x), last(v_out.to(x.dtype))
    grid, sizes, constants = _launch(rows, weight, gate)
    channels, area = x.shape[1], weight.shape[-1] ** 2
    sums, along = weight.new_empty(grid[0], area + 1, channels), weight.new_empty(grid)
    v_made = v_rows if gate == "none" and scale is None else torch.empty_like(rows)
    v_x = torch.empty_like(rows)
    with on_device(x):
        gate_back_kernel[grid](v_rows, rows, weight, bias, scale, v_made, sums, along, *sizes, **constants)
        grid, sizes, constants = _launch(rows, weight, "none")
        adjoint_kernel[grid](v_made, weight, v_x, *sizes, **constants)
    # The second pass of the sums, in a fixed order.
    total = sums.sum(0)
    v_scale = None if scale is None else along.view(len(x), -1).sum(1)
    v_weight = total[:-1].T.contiguous().view_as(weight)
    return in_layout_of(x, v_x), v_weight, None if bias is None else total[-1], v_scale


@triton.jit(do_not_specialize=_SIZES)
def gate_kernel(
    x_ptr,  # [N * H * W, channels]
    weight_ptr,  # [channels, TAPS * TAPS]
    bias_ptr,  # [channels], or None
    scale_ptr,  # [N], or None
    out_ptr,  # [N * H * W, units]
    height,
    width,
    blocks,  # programs per image
    units,  # channels, or half of them where they gate
    GATE: tl.constexpr,
    TAPS: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image, y, x, c, inside = _pixels(height, width, blocks, BLOCK_P, BLOCK_C)
    a, b = _halves(x_ptr, weight_ptr, bias_ptr, image, y, x, c, inside, height, width, units, GATE, TAPS)
    out = _gated(a, b, GATE)
    if scale_ptr is not None:
        out *= tl.load(scale_ptr + image)
    to = out_ptr + ((image * height + y) * width + x)[:, None] * units + c[None, :]
    tl.store(to, out.to(out_ptr.dtype.element_ty), mask=inside[:, None] & (c < units)[None, :])


@triton.jit(do_not_specialize=_SIZES)
def gate_back_kernel(
    v_out_ptr,  # [N * H * W, units]
    x_ptr,  # [N * H * W, channels]
    weight_ptr,  # [channels, TAPS * TAPS]
    bias_ptr,  # [channels], or None
    scale_ptr,  # [N], or None
    v_made_ptr,  # [N * H * W, channels]: at the convolution's output; v_out itself where that is the same
    sums_ptr,  # [programs, TAPS * TAPS + 1, channels]: of the weights and of the bias
    along_ptr,  # [programs, programs along channels]: of the scale
    height,
    width,
    blocks,
    units,
    GATE: tl.constexpr,
    TAPS: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    AREA: tl.constexpr = TAPS * TAPS
    acc: tl.constexpr = weight_ptr.dtype.element_ty
    image, y, x, c, inside = _pixels(height, width, blocks, BLOCK_P, BLOCK_C)
    channels = units if GATE == 0 else 2 * units
    row = (image * height + y) * width + x
    there = inside[:, None] & (c < units)[None, :]
    v = tl.load(v_out_ptr + row[:, None] * units + c[None, :], mask=there, other=0.0).to(acc)
    v_a, v_b = v, v
    if (GATE > 0) or (scale_ptr is not None):
        a, b = _halves(x_ptr, weight_ptr, bias_ptr, image, y, x, c, inside, height, width, units, GATE, TAPS)
        if scale_ptr is not None:
            along = tl.sum(tl.sum(tl.where(there, v * _gated(a, b, GATE), 0.0), axis=0), axis=0)
            tl.store(along_ptr + tl.program_id(0) * tl.num_programs(1) + tl.program_id(1), along)
            v *= tl.load(scale_ptr + image)
        v_a = v * _slope(a, b, GATE)
        v_b = v * _active(a, GATE)
        to = v_made_ptr + row[:, None] * channels + c[None, :]
        tl.store(to, v_a.to(v_made_ptr.dtype.element_ty), mask=there)
        if GATE > 0:
            tl.store(to + units, v_b.to(v_made_ptr.dtype.element_ty), mask=there)

    sums = sums_ptr + tl.program_id(0).to(tl.int64) * ((AREA + 1) * channels) + c
    for tap in range(AREA):
        at, seen = _tap(image, y, x, inside, tap, height, width, TAPS)
        at, mask = x_ptr + at[:, None] * channels + c[None, :], seen[:, None] & (c < units)[None, :]
        one = tl.load(at, mask=mask, other=0.0).to(acc)
        tl.store(sums + tap * channels, tl.sum(v_a * one, axis=0), mask=c < units)
        if GATE > 0:
            other = tl.load(at + units, mask=mask, other=0.0).to(acc)
            tl.store(sums + tap * channels + units, tl.sum(v_b * other, axis=0), mask=c < units)
    tl.store(sums + AREA * channels, tl.sum(v_a, axis=0), mask=c < units)
    if GATE > 0:
        tl.store(sums + AREA * channels + units, tl.sum(v_b, axis=0), mask=c < units)


@triton.jit(do_not_specialize=_SIZES)
def adjoint_kernel(
    v_made_ptr,  # [N * H * W, channels]
    weight_ptr,  # [channels, TAPS * TAPS]
    v_x_ptr,  # [N * H * W, channels]
    height,
    width,
    blocks,
    channels,
    GATE: tl.constexpr,
    TAPS: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image, y, x, c, inside = _pixels(height, width, blocks, BLOCK_P, BLOCK_C)
    there = c < channels
    v_x = _convolved(
        v_made_ptr, weight_ptr, None, image, y, x, c, there, inside, height, width, channels, TAPS, True
    )  # fmt: skip
    to = v_x_ptr + ((image * height + y) * width + x)[:, None] * channels + c[None, :]
    tl.store(to, v_x.to(v_x_ptr.dtype.element_ty), mask=inside[:, None] & there[None, :])


@triton.jit
def _halves(
    x_ptr, weight_ptr, bias_ptr, image, y, x, c, inside, height, width, units, GATE: tl.constexpr, TAPS: tl.constexpr
):
    # The convolution's output at this program's pixels and channels [P, C], and at the other half's.
    there = c < units
    channels = units if GATE == 0 else 2 * units
    a = _convolved(
        x_ptr, weight_ptr, bias_ptr, image, y, x, c, there, inside, height, width, channels, TAPS, False
    )  # fmt: skip
    if GATE > 0:
        b = _convolved(
            x_ptr, weight_ptr, bias_ptr, image, y, x, units + c, there, inside, height, width, channels, TAPS, False
        )  # fmt: skip
    else:
        b = a
    return a, b


@triton.jit
def _convolved(
    x_ptr, weight_ptr, bias_ptr, image, y, x, c, there, inside, height, width, channels,
    TAPS: tl.constexpr, TURNED: tl.constexpr,
):  # fmt: skip
    # The depth-wise convolution at pixels and channels c, [P, C]; TURNED: its adjoint.
    AREA: tl.constexpr = TAPS * TAPS
    sum = tl.zeros((y.shape[0], c.shape[0]), dtype=weight_ptr.dtype.element_ty)
    if bias_ptr is not None:
        sum += tl.load(bias_ptr + c, mask=there, other=0.0)[None, :]
    for tap in range(AREA):
        at, seen = _tap(image, y, x, inside, tap, height, width, TAPS)
        of = AREA - 1 - tap if TURNED else tap
        weight = tl.load(weight_ptr + c * AREA + of, mask=there, other=0.0)
        mask = seen[:, None] & there[None, :]
        one = tl.load(x_ptr + at[:, None] * channels + c[None, :], mask=mask, other=0.0)
        sum += weight[None, :] * one.to(sum.dtype)
    return sum


@triton.jit
def _gated(a, b, GATE: tl.constexpr):
    return a if GATE == 0 else _active(a, GATE) * b


@triton.jit
def _active(a, GATE: tl.constexpr):
    return a * _below(a) if GATE == 2 else a


@triton.jit
def _slope(a, b, GATE: tl.constexpr):
    # The derivative of the gate at a.
    if GATE == 2:
        slope = (_below(a) + a * tl.exp(-0.5 * a * a) * 0.3989422804014327) * b
    elif GATE == 1:
        slope = b
    else:
        slope = tl.full(a.shape, 1, a.dtype)
    return slope


@triton.jit
def _below(a):
    # The share of the normal distribution below a.
    return 0.5 + 0.5 * tl.erf(a * 0.7071067811865476)


@triton.jit
def _pixels(height, width, blocks, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    # Image, rows, columns and channels of this program, and which pixels exist. No program spans two images.
    program = tl.program_id(0)  # divisions of 32 bits: those of 64 are calls
    p = program % blocks * BLOCK_P + tl.arange(0, BLOCK_P)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    return (program // blocks).to(tl.int64), p // width, p % width, c, p < height * width


@triton.jit
def _tap(image, y, x, inside, tap, height, width, TAPS: tl.constexpr):
    # The rows of these pixels' neighbours at a tap, and which of them exist.
    at_y, at_x = y + tap // TAPS - TAPS // 2, x + tap % TAPS - TAPS // 2
    seen = inside & (at_y >= 0) & (at_y < height) & (at_x >= 0) & (at_x < width)
    return (image * height + at_y) * width + at_x, seen


def _launch(
    rows: Tensor, weight: Tensor, gate: str
) -> tuple[tuple[int, int], tuple[int, int, int, int], dict[str, Any]]:
    """The grid, the sizes and the constants of a kernel."""
    images, channels, height, width = rows.shape
    units = channels if gate == "none" else channels // 2
    block_c = max(1, min(_CHANNELS, triton.next_power_of_2(units)))
    blocks = triton.cdiv(height * width, _PIXELS)
    constants = {"GATE": _GATES[gate], "TAPS": weight.shape[-1], "BLOCK_P": _PIXELS, "BLOCK_C": block_c}
    return (images * blocks, triton.cdiv(units, block_c)), (height, width, blocks, units), constants
