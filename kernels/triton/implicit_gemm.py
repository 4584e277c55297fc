"""Our own convolution, a backend of conv_bias_lrelu by parts: implicit matrix products, the rest in their epilogue.

Forward and the gradient at x are one kernel: a program owns a block of output pixels and output channels and walks the
taps. The gradient at the weights sums over pixels in parts, which are added in a fixed order. Any strides are read; the
channels last in memory is what the GPU likes. Compiled for sm_90 and run by the interpreter; not yet measured on a GPU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rgsud_fast.ops._layout import empty_beside

from ._launch import accumulator, on_device

_PIXELS = 128  # per program
_PARTS = 64  # most sums of the weights' gradient that are made apart


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, slope: float, residual: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """lrelu(conv(x) + bias) (+ residual); and what tells the sign before the activation, which a residual hides."""
    packed = weight.permute(2, 3, 1, 0).to(x.dtype).contiguous()  # [K, K, C, D]
    out = empty_beside(x, weight.shape[0])
    sign = None if residual is None else torch.empty_like(out, dtype=torch.uint8)
    _convolve(x, packed, out, slope, bias, residual, sign)
    return out, out if sign is None else sign


def at_x(v_before: Tensor, x: Tensor, weight: Tensor, v_residual: Tensor | None) -> Tensor:
    """Gradient at x, with v_residual added to it."""
    turned = weight.flip(2, 3).permute(2, 3, 0, 1).to(x.dtype).contiguous()  # [K, K, D, C]
    v_x = empty_beside(x, x.shape[1])
    _convolve(v_before, turned, v_x, 1.0, None, v_residual, None)
    return v_x


def at_weight(v_before: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Gradient at the weights."""
    return _correlate(x, v_before, weight)


@triton.jit
def conv_kernel(
    x_ptr,  # [N, C, H, W] of any strides
    weight_ptr,  # [TAPS, TAPS, C, D]
    bias_ptr,  # [D]
    residual_ptr,  # as out
    out_ptr,  # [N, D, H, W] of any strides
    sign_ptr,  # as out, uint8
    height,
    width,
    pixels,  # N * H * W
    channels,
    channels_out,
    x_n,
    x_c,
    x_h,
    x_w,
    out_n,
    out_c,
    out_h,
    out_w,
    slope,
    TAPS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    HAS_SIGN: tl.constexpr,
    ACC: tl.constexpr,
    WIDEN: tl.constexpr,  # the interpreter cannot multiply bfloat16
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    p = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    n, y, x = p // (height * width), p // width % height, p % width
    d = tl.program_id(1).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)
    acc = tl.zeros((BLOCK_P, BLOCK_D), dtype=ACC)
    for tap in range(TAPS * TAPS):
        from_y = y + tap // TAPS - TAPS // 2
        from_x = x + tap % TAPS - TAPS // 2
        inside = (p < pixels) & (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)
        row = x_ptr + n * x_n + from_y * x_h + from_x * x_w
        for begin in range(0, channels, BLOCK_C):
            c = begin + tl.arange(0, BLOCK_C).to(tl.int64)
            seen = tl.load(row[:, None] + c[None, :] * x_c, mask=inside[:, None] & (c < channels)[None, :], other=0.0)
            at = (tap * channels + c)[:, None] * channels_out + d[None, :]
            weight = tl.load(weight_ptr + at, mask=(c < channels)[:, None] & (d < channels_out)[None, :], other=0.0)
            if WIDEN:
                seen, weight = seen.to(ACC), weight.to(ACC)
            acc = tl.dot(seen, weight, acc, input_precision="ieee", out_dtype=ACC)

    if HAS_BIAS:
        acc += tl.load(bias_ptr + d, mask=d < channels_out, other=0.0).to(ACC)[None, :]
    at = (n * out_n + y * out_h + x * out_w)[:, None] + d[None, :] * out_c
    mask = (p < pixels)[:, None] & (d < channels_out)[None, :]
    if HAS_SIGN:
        tl.store(sign_ptr + at, (acc > 0).to(tl.uint8), mask=mask)
    acc = tl.where(acc > 0, acc, acc * slope)
    if HAS_RESIDUAL:
        acc += tl.load(residual_ptr + at, mask=mask, other=0.0).to(ACC)
    tl.store(out_ptr + at, acc.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def correlate_kernel(
    x_ptr,  # [N, C, H, W] of any strides
    v_ptr,  # [N, D, H, W] of any strides: the gradient before the activation
    partials_ptr,  # [parts, TAPS, TAPS, C, D]
    height,
    width,
    pixels,
    part,  # pixels per part, a multiple of BLOCK_P
    channels,
    channels_out,
    x_n,
    x_c,
    x_h,
    x_w,
    v_n,
    v_c,
    v_h,
    v_w,
    TAPS: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    tap = tl.program_id(1)
    blocks = tl.cdiv(channels_out, BLOCK_D)
    c = (tl.program_id(2) // blocks).to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)
    d = (tl.program_id(2) % blocks).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)
    acc_type: tl.constexpr = partials_ptr.dtype.element_ty
    acc = tl.zeros((BLOCK_C, BLOCK_D), dtype=acc_type)
    first = tl.program_id(0).to(tl.int64) * part
    for begin in range(0, part, BLOCK_P):
        p = first + begin + tl.arange(0, BLOCK_P)
        n, y, x = p // (height * width), p // width % height, p % width
        from_y = y + tap // TAPS - TAPS // 2
        from_x = x + tap % TAPS - TAPS // 2
        there = p < pixels
        inside = there & (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)
        at = (n * x_n + from_y * x_h + from_x * x_w)[None, :] + c[:, None] * x_c
        seen = tl.load(x_ptr + at, mask=inside[None, :] & (c < channels)[:, None], other=0.0)
        at = (n * v_n + y * v_h + x * v_w)[:, None] + d[None, :] * v_c
        v = tl.load(v_ptr + at, mask=there[:, None] & (d < channels_out)[None, :], other=0.0)
        if WIDEN:
            seen, v = seen.to(acc_type), v.to(acc_type)
        acc = tl.dot(seen, v, acc, input_precision="ieee", out_dtype=acc_type)
    at = (tl.program_id(0).to(tl.int64) * TAPS * TAPS + tap) * channels * channels_out
    at = at + c[:, None] * channels_out + d[None, :]
    tl.store(partials_ptr + at, acc, mask=(c < channels)[:, None] & (d < channels_out)[None, :])


def _convolve(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    slope: float,
    bias: Tensor | None,
    residual: Tensor | None,
    sign: Tensor | None,
) -> None:
    images, channels, height, width = x.shape
    channels_out, pixels = out.shape[1], images * height * width
    residual = residual if residual is None or residual.stride() == out.stride() else _like(residual, out)
    block_d = _block(channels_out, 128)
    with on_device(x):
        conv_kernel[(triton.cdiv(pixels, _PIXELS), triton.cdiv(channels_out, block_d))](
            x, weight, bias, residual, out, sign, height, width, pixels, channels, channels_out,
            *x.stride(), *out.stride(), slope, TAPS=weight.shape[0], HAS_BIAS=bias is not None,
            HAS_RESIDUAL=residual is not None, HAS_SIGN=sign is not None, ACC=accumulator(x), WIDEN=not x.is_cuda,
            BLOCK_P=_PIXELS, BLOCK_D=block_d, BLOCK_C=_block(channels, 64),
        )  # fmt: skip


def _correlate(x: Tensor, v: Tensor, weight: Tensor) -> Tensor:
    """The gradient at the weights, in their dtype."""
    images, channels, height, width = x.shape
    channels_out, taps, pixels = v.shape[1], weight.shape[2], images * height * width
    block_c, block_d, block_p = _block(channels, 64), _block(channels_out, 64), 64
    part = triton.cdiv(triton.cdiv(pixels, _PARTS), block_p) * block_p
    parts = triton.cdiv(pixels, part)
    partials = x.new_empty(parts, taps, taps, channels, channels_out, dtype=weight.dtype)
    blocks = triton.cdiv(channels, block_c) * triton.cdiv(channels_out, block_d)
    with on_device(x):
        correlate_kernel[(parts, taps * taps, blocks)](
            x, v, partials, height, width, pixels, part, channels, channels_out, *x.stride(), *v.stride(),
            TAPS=taps, WIDEN=not x.is_cuda, BLOCK_P=block_p, BLOCK_C=block_c, BLOCK_D=block_d,
        )  # fmt: skip
    return partials.sum(0).permute(3, 2, 0, 1).contiguous()


def _like(x: Tensor, other: Tensor) -> Tensor:
    """x with the strides of another tensor of its shape."""
    return torch.empty_like(other, dtype=x.dtype).copy_(x)


def _block(channels: int, most: int) -> int:
    # A matrix product needs 16 at least.
    return max(16, min(most, triton.next_power_of_2(channels)))
