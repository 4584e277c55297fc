"""Triton kernels of nafblock: normalisation, and the depthwise convolution with its gate, on rows of channels."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def norm_kernel(
    x_ptr,  # [rows, C]
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    out_ptr,  # [rows, C]
    rows,
    channels,
    eps,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    at, c, inside = _place(rows, channels, BLOCK_P, BLOCK_C)
    acc: tl.constexpr = weight_ptr.dtype.element_ty
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(acc)
    normed = _normalise(x, weight_ptr, bias_ptr, c, inside, channels, eps)
    tl.store(out_ptr + at, normed.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def norm_back_kernel(
    v_out_ptr,  # [rows, C]
    x_ptr,  # [rows, C]
    weight_ptr,  # [C]
    v_skip_ptr,  # [rows, C], added to v_x
    v_x_ptr,  # [rows, C]
    partials_ptr,  # [3, programs, C]: of v_weight, of v_bias; sums of v_x
    rows,
    channels,
    eps,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    at, c, inside = _place(rows, channels, BLOCK_P, BLOCK_C)
    acc: tl.constexpr = weight_ptr.dtype.element_ty
    normal, inverse = _standardise(tl.load(x_ptr + at, mask=inside, other=0.0).to(acc), inside, channels, eps)
    v_out = tl.load(v_out_ptr + at, mask=inside, other=0.0).to(acc)
    # With g = v_out * weight: v_x = (g - mean_c(g) - normal * mean_c(g * normal)) * inverse.
    g = v_out * tl.load(weight_ptr + c, mask=c < channels, other=0.0)[None, :]
    mean = tl.sum(g, axis=1) / channels
    along = tl.sum(g * normal, axis=1) / channels
    v_x = (g - mean[:, None] - normal * along[:, None]) * inverse[:, None]
    v_x += tl.load(v_skip_ptr + at, mask=inside, other=0.0).to(acc)
    v_x = v_x.to(v_x_ptr.dtype.element_ty)
    tl.store(v_x_ptr + at, v_x, mask=inside)
    to = partials_ptr + tl.program_id(0).to(tl.int64) * channels + c
    apart = tl.num_programs(0).to(tl.int64) * channels
    tl.store(to, tl.sum(v_out * normal, axis=0), mask=c < channels)
    tl.store(to + apart, tl.sum(v_out, axis=0), mask=c < channels)
    tl.store(to + 2 * apart, tl.sum(tl.where(inside, v_x.to(acc), 0.0), axis=0), mask=c < channels)


@triton.jit
def residual_norm_kernel(
    x_ptr,  # [rows, C]
    mixed_ptr,  # [rows, C]: project1's product
    beta_ptr,  # [C]
    project1_bias_ptr,  # [C]
    gamma_ptr,  # [C]
    project2_bias_ptr,  # [C]
    weight_ptr,  # [C]: of the normalisation
    bias_ptr,  # [C]
    y_ptr,  # [rows, C]: x + mixed + beta * project1_bias
    normed_ptr,  # [rows, C]
    out_ptr,  # [rows, C]: y + gamma * project2_bias, to which project2's product will be added
    rows,
    channels,
    eps,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    at, c, inside = _place(rows, channels, BLOCK_P, BLOCK_C)
    there = c < channels
    acc: tl.constexpr = weight_ptr.dtype.element_ty
    shift = tl.load(beta_ptr + c, mask=there, other=0.0) * tl.load(project1_bias_ptr + c, mask=there, other=0.0)
    y = tl.load(x_ptr + at, mask=inside, other=0.0).to(acc) + tl.load(mixed_ptr + at, mask=inside, other=0.0).to(acc)
    y = (y + shift[None, :]).to(y_ptr.dtype.element_ty)
    tl.store(y_ptr + at, y, mask=inside)
    y = y.to(acc)
    shift = tl.load(gamma_ptr + c, mask=there, other=0.0) * tl.load(project2_bias_ptr + c, mask=there, other=0.0)
    tl.store(out_ptr + at, (y + shift[None, :]).to(out_ptr.dtype.element_ty), mask=inside)
    normed = _normalise(y, weight_ptr, bias_ptr, c, inside, channels, eps)
    tl.store(normed_ptr + at, normed.to(normed_ptr.dtype.element_ty), mask=inside)


@triton.jit
def multiply_back_kernel(
    g_ptr,  # [rows, C]: at the block's output, of which only the sums are wanted
    v_ptr,  # [rows, C]: at the product of both halves of e; becomes that product
    e_ptr,  # [rows, 2C]
    v_e_ptr,  # [rows, 2C]
    partials_ptr,  # [programs, 3C]: sums of g and of v_e
    rows,
    channels,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    at, c, inside = _place(rows, channels, BLOCK_P, BLOCK_C)
    acc: tl.constexpr = partials_ptr.dtype.element_ty
    wide = 2 * at - c[None, :]
    first = tl.load(e_ptr + wide, mask=inside, other=0.0).to(acc)
    second = tl.load(e_ptr + wide + channels, mask=inside, other=0.0).to(acc)
    v = tl.load(v_ptr + at, mask=inside, other=0.0).to(acc)
    tl.store(v_ptr + at, (first * second).to(v_ptr.dtype.element_ty), mask=inside)
    to = partials_ptr + tl.program_id(0).to(tl.int64) * (3 * channels) + c
    tl.store(to, tl.sum(tl.load(g_ptr + at, mask=inside, other=0.0).to(acc), axis=0), mask=c < channels)
    v_first = (v * second).to(v_e_ptr.dtype.element_ty)
    tl.store(v_e_ptr + wide, v_first, mask=inside)
    tl.store(to + channels, tl.sum(v_first.to(acc), axis=0), mask=c < channels)
    v_second = (v * first).to(v_e_ptr.dtype.element_ty)
    tl.store(v_e_ptr + wide + channels, v_second, mask=inside)
    tl.store(to + 2 * channels, tl.sum(v_second.to(acc), axis=0), mask=c < channels)


@triton.jit
def gate_kernel(
    t_ptr,  # [rows, 2C]
    weight_ptr,  # [2C, 9]
    bias_ptr,  # [2C]
    u_ptr,  # [rows, C]: the product of the two halves after the depthwise convolution
    partials_ptr,  # [images * blocks, C]: sums of u
    height,
    width,
    blocks,  # programs per image
    channels,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image, y, x, c, inside = _pixels(height, width, blocks, BLOCK_P, BLOCK_C)
    row = (image * height + y) * width + x
    a, b = _halves(t_ptr, weight_ptr, bias_ptr, row, y, x, c, inside, height, width, channels, BLOCK_P, BLOCK_C)
    there = inside[:, None] & (c < channels)[None, :]
    u = tl.where(there, a * b, 0.0)
    tl.store(u_ptr + row[:, None] * channels + c[None, :], u.to(u_ptr.dtype.element_ty), mask=there)
    tl.store(partials_ptr + tl.program_id(0).to(tl.int64) * channels + c, tl.sum(u, axis=0), mask=c < channels)


@triton.jit
def gate_back_kernel(
    v_u_ptr,  # [rows, C]
    v_mean_ptr,  # [images, tiles, C]: their sum is added to every v_u of an image
    t_ptr,  # [rows, 2C]
    weight_ptr,  # [2C, 9]
    bias_ptr,  # [2C]
    v_a_ptr,  # [rows, 2C]: at the depthwise convolution's output
    partials_ptr,  # [images * blocks, 10, 2C]: of the nine weights and of the bias
    height,
    width,
    blocks,
    channels,
    TILES: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image, y, x, c, inside = _pixels(height, width, blocks, BLOCK_P, BLOCK_C)
    row = (image * height + y) * width + x
    a, b = _halves(t_ptr, weight_ptr, bias_ptr, row, y, x, c, inside, height, width, channels, BLOCK_P, BLOCK_C)
    there = inside[:, None] & (c < channels)[None, :]
    v_u = tl.load(v_u_ptr + row[:, None] * channels + c[None, :], mask=there, other=0.0).to(a.dtype)
    v_mean = tl.zeros((BLOCK_C,), dtype=a.dtype)
    for tile in tl.static_range(TILES):
        v_mean += tl.load(v_mean_ptr + (image * TILES + tile) * channels + c, mask=c < channels, other=0.0)
    v_u = tl.where(there, v_u + v_mean[None, :], 0.0)
    v_a, v_b = v_u * b, v_u * a
    to = v_a_ptr + row[:, None] * (2 * channels) + c[None, :]
    tl.store(to, v_a.to(v_a_ptr.dtype.element_ty), mask=there)
    tl.store(to + channels, v_b.to(v_a_ptr.dtype.element_ty), mask=there)

    sums = partials_ptr + tl.program_id(0).to(tl.int64) * 20 * channels + c
    for tap in range(9):
        seen = _tap(row, y, x, inside, tap, height, width)
        at = t_ptr + (row + (tap // 3 - 1) * width + tap % 3 - 1)[:, None] * (2 * channels) + c[None, :]
        mask = seen[:, None] & (c < channels)[None, :]
        first = tl.load(at, mask=mask, other=0.0).to(a.dtype)
        second = tl.load(at + channels, mask=mask, other=0.0).to(a.dtype)
        tl.store(sums + tap * 2 * channels, tl.sum(v_a * first, axis=0), mask=c < channels)
        tl.store(sums + tap * 2 * channels + channels, tl.sum(v_b * second, axis=0), mask=c < channels)
    tl.store(sums + 18 * channels, tl.sum(v_a, axis=0), mask=c < channels)
    tl.store(sums + 19 * channels, tl.sum(v_b, axis=0), mask=c < channels)


@triton.jit
def depthwise_back_kernel(
    v_a_ptr,  # [rows, C]
    weight_ptr,  # [C, 9]
    v_t_ptr,  # [rows, C]
    partials_ptr,  # [images * blocks, C]: sums of v_t, where SUMS
    height,
    width,
    blocks,
    channels,
    SUMS: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image, y, x, c, inside = _pixels(height, width, blocks, BLOCK_P, BLOCK_C)
    row = (image * height + y) * width + x
    acc = tl.zeros((BLOCK_P, BLOCK_C), dtype=weight_ptr.dtype.element_ty)
    for tap in range(9):
        seen = _tap(row, y, x, inside, tap, height, width)
        at = v_a_ptr + (row + (tap // 3 - 1) * width + tap % 3 - 1)[:, None] * channels + c[None, :]
        weight = tl.load(weight_ptr + c * 9 + 8 - tap, mask=c < channels, other=0.0)
        value = tl.load(at, mask=seen[:, None] & (c < channels)[None, :], other=0.0).to(acc.dtype)
        acc += weight[None, :] * value
    to = v_t_ptr + row[:, None] * channels + c[None, :]
    there = inside[:, None] & (c < channels)[None, :]
    v_t = acc.to(v_t_ptr.dtype.element_ty)
    tl.store(to, v_t, mask=there)
    if SUMS:
        sums = tl.sum(tl.where(there, v_t.to(acc.dtype), 0.0), axis=0)
        tl.store(partials_ptr + tl.program_id(0).to(tl.int64) * channels + c, sums, mask=c < channels)


@triton.jit
def _normalise(x, weight_ptr, bias_ptr, c, inside, channels, eps):
    normal, _ = _standardise(x, inside, channels, eps)
    weight = tl.load(weight_ptr + c, mask=c < channels, other=0.0)
    return normal * weight[None, :] + tl.load(bias_ptr + c, mask=c < channels, other=0.0)[None, :]


@triton.jit
def _place(rows, channels, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    # Offsets [P, C] of this program's rows, its channels [C], and which elements exist.
    p = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    c = tl.arange(0, BLOCK_C)
    return p[:, None] * channels + c[None, :], c, (p < rows)[:, None] & (c < channels)[None, :]


@triton.jit
def _standardise(x, inside, channels, eps):
    # x without its mean over the channels, over its deviation [P, C]; and 1 / deviation [P].
    centred = tl.where(inside, x - (tl.sum(x, axis=1) / channels)[:, None], 0.0)
    inverse = 1 / tl.sqrt(tl.sum(centred * centred, axis=1) / channels + eps)
    return centred * inverse[:, None], inverse


@triton.jit
def _pixels(height, width, blocks, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    # Image, rows, columns and channels of this program, and which pixels exist. No program spans two images.
    program = tl.program_id(0)  # divisions of 32 bits: those of 64 are calls
    p = program % blocks * BLOCK_P + tl.arange(0, BLOCK_P)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    return (program // blocks).to(tl.int64), p // width, p % width, c, p < height * width


@triton.jit
def _tap(row, y, x, inside, tap, height, width):
    # Which pixels have a neighbour at this tap.
    from_y, from_x = y + tap // 3 - 1, x + tap % 3 - 1
    return inside & (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)


@triton.jit
def _halves(
    t_ptr, weight_ptr, bias_ptr, row, y, x, c, inside, height, width, channels,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    # Both halves of the depthwise convolution's output.
    there = c < channels
    acc: tl.constexpr = weight_ptr.dtype.element_ty
    a = tl.zeros((BLOCK_P, BLOCK_C), dtype=acc) + tl.load(bias_ptr + c, mask=there, other=0.0)[None, :]
    b = tl.zeros((BLOCK_P, BLOCK_C), dtype=acc) + tl.load(bias_ptr + channels + c, mask=there, other=0.0)[None, :]
    for tap in range(9):
        seen = _tap(row, y, x, inside, tap, height, width)[:, None] & there[None, :]
        at = t_ptr + (row + (tap // 3 - 1) * width + tap % 3 - 1)[:, None] * (2 * channels) + c[None, :]
        weight = weight_ptr + c * 9 + tap
        a += tl.load(weight, mask=there, other=0.0)[None, :] * tl.load(at, mask=seen, other=0.0).to(acc)
        b += (
            tl.load(weight + 9 * channels, mask=there, other=0.0)[None, :]
            * tl.load(at + channels, mask=seen, other=0.0).to(acc)
        )  # fmt: skip
    return a, b
