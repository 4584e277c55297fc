"""Our own convolution, taken by parts where it beats the library's: implicit matrix products on rows of channels.

A row of the product is a pixel, its columns are the window's taps times the channels, in one loop: x is read through
the taps and never unfolded in memory. Channels are padded to 8, 16, 32 or a multiple of 64, so that every piece of 16
bytes lies within one tap. All sizes but the number of pixels are constants of the compiled kernel, and offsets within a
program have 32 bits. The gradient at the weights sums over pixels in parts, which are added in a fixed order.
Compiled for sm_90 and run by the interpreter; not yet measured on a GPU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rgsud_fast.ops._layout import in_layout_of, last

from ._launch import accumulator, on_device, shared_memory, warps

_PROGRAMS = 1024  # about how many sum the weights' gradient, where its parts' sums allow it
_PARTIALS = 16 << 20  # bytes of the parts' sums at most


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, slope: float, residual: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """lrelu(conv(x) + bias) (+ residual); and what tells the sign before the activation, which a residual hides."""
    out = _empty(x, weight.shape[0])
    positive = None if residual is None else torch.empty_like(out, dtype=torch.uint8)
    residual = None if residual is None else last(residual)
    _convolve(last(x), weight.permute(2, 3, 1, 0), out, slope, bias=bias, residual=residual, positive=positive)
    found = in_layout_of(x, out)
    return found, found if positive is None else in_layout_of(x, positive)


def at_x(
    v_out: Tensor, sign: Tensor | None, x: Tensor, weight: Tensor, slope: float, v_residual: Tensor | None
) -> Tensor:
    """Gradient at x, with v_residual added to it. sign, where given, tells where the activation's slope was 1."""
    v_x = _empty(x, x.shape[1])
    turned = weight.flip(2, 3).permute(2, 3, 0, 1)
    v_residual = None if v_residual is None else last(v_residual)
    _convolve(last(v_out), turned, v_x, 1.0 if sign is None else slope, sign=sign, residual=v_residual)
    return in_layout_of(x, v_x)


def at_weight(v_out: Tensor, sign: Tensor | None, x: Tensor, weight: Tensor, slope: float) -> Tensor:
    """Gradient at the weights, in their dtype."""
    channels, taps = weight.shape[1:3]
    partials = _correlate(v_out, sign, _padded(last(x)), taps, slope, weight.dtype)
    v_weight = partials.sum(0).view(taps, taps, -1, len(weight))[:, :, :channels]
    return last(v_weight.permute(3, 2, 0, 1))


def _correlate(v_out: Tensor, sign: Tensor | None, x: Tensor, taps: int, slope: float, wide: torch.dtype) -> Tensor:
    """Sums over pixels of the unfolded x times v_out, in parts, [parts, taps * taps * C, D]."""
    _, _, height, width = x.shape
    channels_out, v_out, sign = v_out.shape[1], last(v_out), None if sign is None else last(sign)
    rows, pixels = taps * taps * x.shape[1], x.numel() // x.shape[1]
    block_p, block_k, block_d = _blocks(x, 64, 128, channels_out, 64)
    blocks = triton.cdiv(rows, block_k) * triton.cdiv(channels_out, block_d)
    allowed = min(_PARTIALS, (x.nbytes + v_out.nbytes) // 4)  # the sums are written and read: half of what x and v cost
    most = max(1, min(_PROGRAMS // blocks, allowed // (rows * channels_out * wide.itemsize)))
    part = triton.cdiv(triton.cdiv(pixels, most), block_p) * block_p
    parts = triton.cdiv(pixels, part)
    partials = x.new_empty(parts, rows, channels_out, dtype=wide)
    with on_device(x):
        correlate_kernel[(parts, triton.cdiv(rows, block_k), triton.cdiv(channels_out, block_d))](
            x, v_out, sign, partials, pixels, part, HEIGHT=height, WIDTH=width, CHANNELS=x.shape[1],
            CHANNELS_OUT=channels_out, TAPS=taps, SLOPE=slope, HAS_SIGN=sign is not None, WIDEN=not x.is_cuda,
            BLOCK_P=block_p, BLOCK_K=block_k, BLOCK_D=block_d, num_warps=warps(x),
            num_stages=_stages(x, block_p * (block_k + (1 + (sign is not None)) * block_d)),
        )  # fmt: skip
    return partials


@triton.jit
def conv_kernel(
    x_ptr,  # [pixels, C]
    in_sign_ptr,  # as x: not positive where x is to be scaled by SLOPE, of a gradient that comes through an activation
    weight_ptr,  # [TAPS, TAPS, C, D]
    bias_ptr,  # [D]
    residual_ptr,  # as out
    out_ptr,  # [pixels, D]
    positive_ptr,  # as out, uint8
    pixels,  # N * H * W
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    CHANNELS_OUT: tl.constexpr,
    TAPS: tl.constexpr,
    SLOPE: tl.constexpr,
    HAS_IN_SIGN: tl.constexpr,  # else the slope is the output's
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    HAS_POSITIVE: tl.constexpr,
    ACC: tl.constexpr,
    WIDEN: tl.constexpr,  # the interpreter cannot multiply bfloat16
    BLOCK_P: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    first = tl.program_id(0) * BLOCK_P
    row = tl.arange(0, BLOCK_P)
    y, x = (first + row) // WIDTH % HEIGHT, (first + row) % WIDTH
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    base = first.to(tl.int64) * CHANNELS
    k = tl.arange(0, BLOCK_K)
    weights = weight_ptr + k[:, None] * CHANNELS_OUT + d[None, :]
    ROWS: tl.constexpr = TAPS * TAPS * CHANNELS
    acc = tl.zeros((BLOCK_P, BLOCK_D), dtype=ACC)
    for step in range(tl.cdiv(ROWS, BLOCK_K)):
        at, inside = _taps(row, y, x, step, first, pixels, HEIGHT, WIDTH, CHANNELS, TAPS, BLOCK_K)
        seen = _load(x_ptr, in_sign_ptr, base, at, inside, SLOPE, HAS_IN_SIGN)
        if CHANNELS_OUT % BLOCK_D == 0 and ROWS % BLOCK_K == 0:
            weight = tl.load(weights + step * (BLOCK_K * CHANNELS_OUT))
        else:
            there = (d < CHANNELS_OUT)[None, :] & (k < ROWS - step * BLOCK_K)[:, None]
            weight = tl.load(weights + step * (BLOCK_K * CHANNELS_OUT), mask=there, other=0.0)
        if WIDEN:
            seen, weight = seen.to(ACC), weight.to(ACC)
        acc = tl.dot(seen, weight, acc, input_precision="ieee", out_dtype=ACC)

    if HAS_BIAS:
        acc += tl.load(bias_ptr + d, mask=d < CHANNELS_OUT, other=0.0).to(ACC)[None, :]
    to = first.to(tl.int64) * CHANNELS_OUT
    at = row[:, None] * CHANNELS_OUT + d[None, :]
    mask = (row < pixels - first)[:, None] & (d < CHANNELS_OUT)[None, :]
    if HAS_POSITIVE:
        tl.store(positive_ptr + to + at, (acc > 0).to(tl.uint8), mask=mask)
    if not HAS_IN_SIGN and SLOPE != 1:
        acc = tl.where(acc > 0, acc, acc * SLOPE)
    if HAS_RESIDUAL:
        acc += tl.load(residual_ptr + to + at, mask=mask, other=0.0).to(ACC)
    tl.store(out_ptr + to + at, acc.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def correlate_kernel(
    x_ptr,  # [pixels, C]
    v_ptr,  # [pixels, D]
    sign_ptr,  # as v: not positive where v is to be scaled by SLOPE
    partials_ptr,  # [parts, TAPS, TAPS, C, D]
    pixels,  # N * H * W
    part,  # pixels per part, a multiple of BLOCK_P
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    CHANNELS_OUT: tl.constexpr,
    TAPS: tl.constexpr,
    SLOPE: tl.constexpr,
    HAS_SIGN: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    ROWS: tl.constexpr = TAPS * TAPS * CHANNELS
    d = tl.program_id(2) * BLOCK_D + tl.arange(0, BLOCK_D)
    row = tl.arange(0, BLOCK_P)
    acc_type: tl.constexpr = partials_ptr.dtype.element_ty
    acc = tl.zeros((BLOCK_K, BLOCK_D), dtype=acc_type)
    start = tl.program_id(0) * part
    x_base, v_base = start.to(tl.int64) * CHANNELS, start.to(tl.int64) * CHANNELS_OUT
    for begin in range(0, part, BLOCK_P):
        first = start + begin
        y, x = (first + row) // WIDTH % HEIGHT, (first + row) % WIDTH
        at, inside = _taps(row, y, x, tl.program_id(1), first, pixels, HEIGHT, WIDTH, CHANNELS, TAPS, BLOCK_K)
        seen = tl.load(x_ptr + x_base + begin * CHANNELS + at, mask=inside, other=0.0)
        there = (row < pixels - first)[:, None] & (d < CHANNELS_OUT)[None, :]
        at = begin * CHANNELS_OUT + row[:, None] * CHANNELS_OUT + d[None, :]
        v = _load(v_ptr, sign_ptr, v_base, at, there, SLOPE, HAS_SIGN)
        if WIDEN:
            seen, v = seen.to(acc_type), v.to(acc_type)
        acc = tl.dot(tl.trans(seen), v, acc, input_precision="ieee", out_dtype=acc_type)
    k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    at = (tl.program_id(0) * ROWS).to(tl.int64) * CHANNELS_OUT + k[:, None] * CHANNELS_OUT + d[None, :]
    tl.store(partials_ptr + at, acc, mask=(k < ROWS)[:, None] & (d < CHANNELS_OUT)[None, :])


@triton.jit
def _taps(
    row, y, x, step, first, pixels, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, CHANNELS: tl.constexpr,
    TAPS: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    # Offsets [P, K] from the first row's, of the step-th columns of the unfolded image; and which elements exist.
    if CHANNELS % BLOCK_K == 0:  # they lie within one tap
        STEPS: tl.constexpr = CHANNELS // BLOCK_K
        tap = step // STEPS
        c = step % STEPS * BLOCK_K + tl.arange(0, BLOCK_K)[None, :]
        down, across = tap // TAPS - TAPS // 2, tap % TAPS - TAPS // 2
        from_y, from_x, here = y + down, x + across, row < pixels - first
        inside = (here & (from_y.to(tl.uint32) < HEIGHT) & (from_x.to(tl.uint32) < WIDTH))[:, None]
    else:
        k = step * BLOCK_K + tl.arange(0, BLOCK_K)[None, :]
        tap, c = k // CHANNELS, k % CHANNELS
        down, across = tap // TAPS - TAPS // 2, tap % TAPS - TAPS // 2
        from_y, from_x, here = y[:, None] + down, x[:, None] + across, (row < pixels - first)[:, None]
        inside = here & (from_y.to(tl.uint32) < HEIGHT) & (from_x.to(tl.uint32) < WIDTH) & (tap < TAPS * TAPS)
    return row[:, None] * CHANNELS + (down * WIDTH + across) * CHANNELS + c, inside


@triton.jit
def _load(ptr, sign_ptr, base, at, inside, SLOPE: tl.constexpr, HAS_SIGN: tl.constexpr):
    value = tl.load(ptr + base + at, mask=inside, other=0.0)
    if HAS_SIGN:
        sign = tl.load(sign_ptr + base + at, mask=inside, other=0)
        value = tl.where(sign > 0, value, value * SLOPE).to(value.dtype)
    return value


def _convolve(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    slope: float,
    sign: Tensor | None = None,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    positive: Tensor | None = None,
) -> None:
    """out = the convolution of x by weight, [K, K, C, D], and what belongs to it. All features channels last."""
    images, _, height, width = x.shape
    taps, channels_out, pixels = weight.shape[0], weight.shape[3], images * height * width
    x, sign = _padded(x), None if sign is None else _padded(last(sign))
    packed = x.new_zeros(taps, taps, x.shape[1], channels_out)
    packed[:, :, : weight.shape[2]] = weight
    block_p, block_k, block_d = _blocks(x, 128, 64, channels_out, 128 if sign is None else 64)
    with on_device(x):
        conv_kernel[(triton.cdiv(pixels, block_p), triton.cdiv(channels_out, block_d))](
            x, sign, packed, bias, residual, out, positive, pixels, HEIGHT=height, WIDTH=width, CHANNELS=x.shape[1],
            CHANNELS_OUT=channels_out, TAPS=taps, SLOPE=slope, HAS_IN_SIGN=sign is not None, HAS_BIAS=bias is not None,
            HAS_RESIDUAL=residual is not None, HAS_POSITIVE=positive is not None, ACC=accumulator(x),
            WIDEN=not x.is_cuda, BLOCK_P=block_p, BLOCK_K=block_k, BLOCK_D=block_d,
            num_warps=warps(x), num_stages=_stages(x, ((1 + (sign is not None)) * block_p + block_d) * block_k),
        )  # fmt: skip


def _empty(x: Tensor, channels: int) -> Tensor:
    images, _, height, width = x.shape
    return torch.empty(
        (images, channels, height, width), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
    )


def _padded(x: Tensor) -> Tensor:
    """Features with channels of zeros up to the next count that the kernels take."""
    channels = x.shape[1]
    whole = max(8, triton.next_power_of_2(channels)) if channels < 64 else triton.cdiv(channels, 64) * 64
    if whole == channels:
        return x
    wide = torch.zeros((x.shape[0], whole, *x.shape[2:]), dtype=x.dtype, device=x.device)
    wide = wide.to(memory_format=torch.channels_last)
    wide[:, :channels] = x
    return wide


def _blocks(x: Tensor, pixels: int, columns: int, channels_out: int, most: int) -> tuple[int, int, int]:
    """Pixels, columns of the unfolded x, and output channels of a program; fewer of larger numbers."""
    share = x.element_size() // 2  # 1, 2, 4
    block_d = max(16, min(most, triton.next_power_of_2(channels_out)) // share)
    return max(32, pixels // share), max(16, columns // share), block_d


def _stages(x: Tensor, elements: int) -> int:
    """Loads in flight: what the device's shared memory holds of a program's blocks, 4 at most."""
    return max(1, min(4, shared_memory(x) // (elements * x.element_size())))
