"""nafblock's depthwise convolution with its gate, forward and backward: kernels that walk down strips of an image.

Of every row that a program reads, once at each of three shifts, it adds all nine products to the three rows above, at
and below; weights and unfinished rows stay in registers. Rows to come are on their way to shared memory meanwhile.
Compiled for sm_80 to sm_90 and run by the interpreter; not yet measured on a GPU.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ._launch import on_device

_STRIPS = 128  # programs of an image, about: each walks 4 to 32 rows, whatever the number of images
_SIZES = ["height", "width", "part", "tiles"]  # one compilation serves all


def gate(t: Tensor, weight: Tensor, bias: Tensor, images: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The product of both halves of the convolution of t, [rows, C]; and its sums, [images * parts, C]."""
    channels = t.shape[1] // 2
    part, programs, blocks = _grid(channels, 512, images, height, width)
    u, partials = t.new_empty(len(t), channels), weight.new_empty(programs[0], channels)
    with on_device(t):
        gate_kernel[programs](t, weight, bias, u, partials, height, width, part, channels, **blocks)
    return u, partials


def gate_back(
    v_u: Tensor, v_mean: Tensor, t: Tensor, weight: Tensor, bias: Tensor, images: int, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """The gradient at the convolution's output, [rows, 2C]; and in parts those at its weights, [parts, 10, 2C]."""
    channels = t.shape[1] // 2
    part, programs, blocks = _grid(channels, 512, images, height, width)
    v_a, partials = t.new_empty(t.shape), weight.new_empty(programs[0], 10, 2 * channels)
    with on_device(t):
        gate_back_kernel[programs](
            v_u, v_mean, t, weight, bias, v_a, partials, height, width, part, v_mean.shape[1], channels, **blocks
        )
    return v_a, partials


def depthwise_back(v_a: Tensor, weight: Tensor, height: int, width: int, sums: bool) -> tuple[Tensor, Tensor]:
    """The gradient at the convolution's input, [rows, C], and where asked for its sums in parts, [parts, C]."""
    channels = v_a.shape[1]
    part, programs, blocks = _grid(channels, 1024, len(v_a) // (height * width), height, width)
    v_t, partials = v_a.new_empty(v_a.shape), weight.new_empty(programs[0] if sums else 0, channels)
    with on_device(v_a):
        depthwise_back_kernel[programs](v_a, weight, v_t, partials, height, width, part, channels, SUMS=sums, **blocks)
    return v_t, partials


def _grid(channels: int, tile: int, images: int, height: int, width: int) -> tuple[int, tuple[int, int], dict]:
    """Rows that a program walks, the grid, and the tile of a row: each of 128 threads holds tile / 128 numbers."""
    block_c = min(tile // 16, triton.next_power_of_2(channels))
    block_x = tile // block_c
    across, deep = triton.cdiv(width, block_x), triton.cdiv(channels, block_c)
    part = max(4, min(32, triton.cdiv(height * across * deep, _STRIPS)))
    return part, (images * triton.cdiv(height, part) * across, deep), {"BLOCK_X": block_x, "BLOCK_C": block_c}


@triton.jit(do_not_specialize=_SIZES)
def gate_kernel(
    t_ptr,  # [rows, 2C]
    weight_ptr,  # [2C, 9]
    bias_ptr,  # [2C]
    u_ptr,  # [rows, C]: the product of the two halves after the depthwise convolution
    partials_ptr,  # [programs, C]: sums of u
    height,
    width,
    part,  # rows of a program
    channels,
    BLOCK_X: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image, first, x, c = _strip(height, width, part, BLOCK_X, BLOCK_C)
    left, inside, right = _columns(x, c, width, channels)
    there = c < channels
    a0, a1, a2, a3, a4, a5, a6, a7, a8 = _nine(weight_ptr + c * 9, there)
    b0, b1, b2, b3, b4, b5, b6, b7, b8 = _nine(weight_ptr + (channels + c) * 9, there)
    shift_a, shift_b = _row(bias_ptr + c, there), _row(bias_ptr + channels + c, there)
    up_a = tl.zeros((BLOCK_X, BLOCK_C), dtype=shift_a.dtype)
    up_b, mid_a, mid_b, sums = up_a, up_a, up_a, up_a
    at, to = x[:, None] * (2 * channels) + c[None, :], x[:, None] * channels + c[None, :]
    for y in tl.range(first - 1, tl.minimum(first + part, height) + 1, num_stages=3):
        row = (image * height + y) * width
        real = (y >= 0) & (y < height)
        t = t_ptr + row * (2 * channels)
        l0, m0, r0 = _three(t + at, 2 * channels, left & real, inside & real, right & real, up_a.dtype)
        a, up_a, mid_a = _next(up_a, mid_a, shift_a, a0, a1, a2, a3, a4, a5, a6, a7, a8, l0, m0, r0)
        l0, m0, r0 = _three(t + channels + at, 2 * channels, left & real, inside & real, right & real, up_a.dtype)
        b, up_b, mid_b = _next(up_b, mid_b, shift_b, b0, b1, b2, b3, b4, b5, b6, b7, b8, l0, m0, r0)
        done = inside & (y > first)  # a and b are the row above
        u = tl.where(done, a * b, 0.0)
        sums += u
        tl.store(u_ptr + (row - width) * channels + to, u.to(u_ptr.dtype.element_ty), mask=done)
    tl.store(partials_ptr + tl.program_id(0).to(tl.int64) * channels + c, tl.sum(sums, axis=0), mask=there)


@triton.jit(do_not_specialize=_SIZES)
def gate_back_kernel(
    v_u_ptr,  # [rows, C]
    v_mean_ptr,  # [images, tiles, C]: their sum is added to every v_u of an image
    t_ptr,  # [rows, 2C]
    weight_ptr,  # [2C, 9]
    bias_ptr,  # [2C]
    v_a_ptr,  # [rows, 2C]: at the depthwise convolution's output
    partials_ptr,  # [programs, 10, 2C]: of the nine weights and of the bias
    height,
    width,
    part,  # rows of a program
    tiles,
    channels,
    BLOCK_X: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image, first, x, c = _strip(height, width, part, BLOCK_X, BLOCK_C)
    left, inside, right = _columns(x, c, width, channels)
    there = c < channels
    a0, a1, a2, a3, a4, a5, a6, a7, a8 = _nine(weight_ptr + c * 9, there)
    b0, b1, b2, b3, b4, b5, b6, b7, b8 = _nine(weight_ptr + (channels + c) * 9, there)
    shift_a, shift_b = _row(bias_ptr + c, there), _row(bias_ptr + channels + c, there)
    v_mean = tl.zeros((BLOCK_C,), dtype=shift_a.dtype)
    for tile in range(tiles):
        v_mean += tl.load(v_mean_ptr + (image * tiles + tile) * channels + c, mask=there, other=0.0)

    none = tl.zeros((BLOCK_X, BLOCK_C), dtype=shift_a.dtype)
    up_a, up_b, mid_a, mid_b = none, none, none, none
    # What was read of the two rows above: their gradients are known two rows later.
    l1_a, m1_a, r1_a, l2_a, m2_a, r2_a = none, none, none, none, none, none
    l1_b, m1_b, r1_b, l2_b, m2_b, r2_b = none, none, none, none, none, none
    v_a0, v_a1, v_a2, v_a3, v_a4, v_a5, v_a6, v_a7, v_a8, v_shift_a = (
        none, none, none, none, none, none, none, none, none, none)  # fmt: skip
    v_b0, v_b1, v_b2, v_b3, v_b4, v_b5, v_b6, v_b7, v_b8, v_shift_b = (
        none, none, none, none, none, none, none, none, none, none)  # fmt: skip
    at, to = x[:, None] * (2 * channels) + c[None, :], x[:, None] * channels + c[None, :]
    for y in tl.range(first - 1, tl.minimum(first + part, height) + 1, num_stages=3):
        row = (image * height + y) * width
        real = (y >= 0) & (y < height)
        t = t_ptr + row * (2 * channels)
        l0_a, m0_a, r0_a = _three(t + at, 2 * channels, left & real, inside & real, right & real, none.dtype)
        l0_b, m0_b, r0_b = _three(t + channels + at, 2 * channels, left & real, inside & real, right & real, none.dtype)
        a, up_a, mid_a = _next(up_a, mid_a, shift_a, a0, a1, a2, a3, a4, a5, a6, a7, a8, l0_a, m0_a, r0_a)
        b, up_b, mid_b = _next(up_b, mid_b, shift_b, b0, b1, b2, b3, b4, b5, b6, b7, b8, l0_b, m0_b, r0_b)
        done = inside & (y > first)  # a and b are the row above
        v_u = tl.load(v_u_ptr + (row - width) * channels + to, mask=done, other=0.0).to(none.dtype)
        v_u = tl.where(done, v_u + v_mean[None, :], 0.0)
        v_a, v_b = v_u * b, v_u * a
        v = v_a_ptr + (row - width) * (2 * channels)
        tl.store(v + at, v_a.to(v_a_ptr.dtype.element_ty), mask=done)
        tl.store(v + channels + at, v_b.to(v_a_ptr.dtype.element_ty), mask=done)
        v_a0, v_a1, v_a2 = _sums(v_a0, v_a1, v_a2, v_a, l2_a, m2_a, r2_a)
        v_a3, v_a4, v_a5 = _sums(v_a3, v_a4, v_a5, v_a, l1_a, m1_a, r1_a)
        v_a6, v_a7, v_a8 = _sums(v_a6, v_a7, v_a8, v_a, l0_a, m0_a, r0_a)
        v_b0, v_b1, v_b2 = _sums(v_b0, v_b1, v_b2, v_b, l2_b, m2_b, r2_b)
        v_b3, v_b4, v_b5 = _sums(v_b3, v_b4, v_b5, v_b, l1_b, m1_b, r1_b)
        v_b6, v_b7, v_b8 = _sums(v_b6, v_b7, v_b8, v_b, l0_b, m0_b, r0_b)
        v_shift_a += v_a
        v_shift_b += v_b
        l2_a, m2_a, r2_a, l1_a, m1_a, r1_a = l1_a, m1_a, r1_a, l0_a, m0_a, r0_a
        l2_b, m2_b, r2_b, l1_b, m1_b, r1_b = l1_b, m1_b, r1_b, l0_b, m0_b, r0_b

    sums = partials_ptr + tl.program_id(0).to(tl.int64) * (20 * channels) + c
    _store(sums, 2 * channels, there, v_a0, v_a1, v_a2, v_a3, v_a4, v_a5, v_a6, v_a7, v_a8, v_shift_a)
    _store(sums + channels, 2 * channels, there, v_b0, v_b1, v_b2, v_b3, v_b4, v_b5, v_b6, v_b7, v_b8, v_shift_b)


@triton.jit(do_not_specialize=_SIZES)
def depthwise_back_kernel(
    v_a_ptr,  # [rows, C]
    weight_ptr,  # [C, 9]
    v_t_ptr,  # [rows, C]
    partials_ptr,  # [programs, C]: sums of v_t, where SUMS
    height,
    width,
    part,  # rows of a program
    channels,
    SUMS: tl.constexpr,
    BLOCK_X: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image, first, x, c = _strip(height, width, part, BLOCK_X, BLOCK_C)
    left, inside, right = _columns(x, c, width, channels)
    there = c < channels
    w8, w7, w6, w5, w4, w3, w2, w1, w0 = _nine(weight_ptr + c * 9, there)
    up = tl.zeros((BLOCK_X, BLOCK_C), dtype=w0.dtype)
    mid, sums = up, up
    at = x[:, None] * channels + c[None, :]
    for y in tl.range(first - 1, tl.minimum(first + part, height) + 1, num_stages=3):
        row = (image * height + y) * width
        real = (y >= 0) & (y < height)
        l0, m0, r0 = _three(v_a_ptr + row * channels + at, channels, left & real, inside & real, right & real, up.dtype)
        v_t, up, mid = _next(up, mid, 0.0, w0, w1, w2, w3, w4, w5, w6, w7, w8, l0, m0, r0)
        done = inside & (y > first)  # v_t is the row above
        tl.store(v_t_ptr + (row - width) * channels + at, v_t.to(v_t_ptr.dtype.element_ty), mask=done)
        if SUMS:
            sums += tl.where(done, v_t, 0.0)
    if SUMS:
        tl.store(partials_ptr + tl.program_id(0).to(tl.int64) * channels + c, tl.sum(sums, axis=0), mask=there)


@triton.jit
def _strip(height, width, part, BLOCK_X: tl.constexpr, BLOCK_C: tl.constexpr):
    # Image, first row, columns and channels of this program. None spans two images.
    across, down = tl.cdiv(width, BLOCK_X), tl.cdiv(height, part)
    program = tl.program_id(0)  # divisions of 32 bits: those of 64 are calls
    x = program % across * BLOCK_X + tl.arange(0, BLOCK_X)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    return (program // across // down).to(tl.int64), program // across % down * part, x, c


@triton.jit
def _columns(x, c, width, channels):
    # Which pixels [X, C] of a row have a neighbour on the left, exist, and have one on the right.
    there = (c < channels)[None, :]
    inside = (x < width)[:, None] & there
    return inside & (x > 0)[:, None], inside, (x < width - 1)[:, None] & there


@triton.jit
def _row(ptr, there):
    return tl.load(ptr, mask=there, other=0.0)[None, :]


@triton.jit
def _nine(ptr, there):
    # The nine weights [1, C] of every channel.
    return (
        _row(ptr, there), _row(ptr + 1, there), _row(ptr + 2, there), _row(ptr + 3, there), _row(ptr + 4, there),
        _row(ptr + 5, there), _row(ptr + 6, there), _row(ptr + 7, there), _row(ptr + 8, there),
    )  # fmt: skip


@triton.jit
def _three(ptr, apart, left, inside, right, acc: tl.constexpr):
    # A row's pixels and their neighbours on either side.
    return (
        tl.load(ptr - apart, mask=left, other=0.0).to(acc),
        tl.load(ptr, mask=inside, other=0.0).to(acc),
        tl.load(ptr + apart, mask=right, other=0.0).to(acc),
    )


@triton.jit
def _next(up, mid, shift, w0, w1, w2, w3, w4, w5, w6, w7, w8, left, here, right):
    # What a row adds to the one above it, which is finished then, to its own, and to the one below.
    return (
        up + w6 * left + w7 * here + w8 * right,
        mid + w3 * left + w4 * here + w5 * right,
        shift + w0 * left + w1 * here + w2 * right,
    )


@triton.jit
def _sums(of_left, of_here, of_right, v, left, here, right):
    return of_left + v * left, of_here + v * here, of_right + v * right


@triton.jit
def _store(ptr, apart, there, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9):
    # Sums over the pixels [X, C], `apart` from one another.
    tl.store(ptr, tl.sum(s0, axis=0), mask=there)
    tl.store(ptr + apart, tl.sum(s1, axis=0), mask=there)
    tl.store(ptr + 2 * apart, tl.sum(s2, axis=0), mask=there)
    tl.store(ptr + 3 * apart, tl.sum(s3, axis=0), mask=there)
    tl.store(ptr + 4 * apart, tl.sum(s4, axis=0), mask=there)
    tl.store(ptr + 5 * apart, tl.sum(s5, axis=0), mask=there)
    tl.store(ptr + 6 * apart, tl.sum(s6, axis=0), mask=there)
    tl.store(ptr + 7 * apart, tl.sum(s7, axis=0), mask=there)
    tl.store(ptr + 8 * apart, tl.sum(s8, axis=0), mask=there)
    tl.store(ptr + 9 * apart, tl.sum(s9, axis=0), mask=there)
