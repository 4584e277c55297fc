"""Triton kernels of nafblock on rows of channels: all that stands between two depthwise convolutions, in one pass.

A program holds some rows with all their channels, of which there are few, and multiplies them by the block's matrices;
backward it walks many rows and keeps the matrices' gradients in registers, in float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .nafblock_kernels import _standardise

_SIZES = ["rows", "pixels", "blocks", "parts"]  # one compilation serves all


@triton.jit(do_not_specialize=_SIZES)
def norm_expand_kernel(
    x_ptr,  # [rows, C]
    norm_weight_ptr,  # [C]
    norm_bias_ptr,  # [C]
    weight_ptr,  # [2C, C]
    bias_ptr,  # [2C]
    t_ptr,  # [rows, 2C]: the expanded, normalised x
    rows,
    CHANNELS: tl.constexpr,
    EPS: tl.constexpr,
    ACC: tl.constexpr,
    WIDEN: tl.constexpr,  # the interpreter cannot multiply bfloat16
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    first = tl.program_id(0) * BLOCK_P
    at, c, inside = _tile(first, rows, CHANNELS, BLOCK_P, BLOCK_C)
    x = tl.load(x_ptr + first.to(tl.int64) * CHANNELS + at, mask=inside, other=0.0)
    normal, _ = _standardise(x.to(ACC), inside, CHANNELS, EPS)
    normed = _affine(normal, norm_weight_ptr, norm_bias_ptr, c, x.dtype, CHANNELS)
    to = t_ptr + first.to(tl.int64) * (2 * CHANNELS) + tl.arange(0, BLOCK_P)[:, None] * (2 * CHANNELS) + c[None, :]
    for half in tl.static_range(2):
        t = _linear(normed, weight_ptr, bias_ptr, c, half, CHANNELS, ACC, WIDEN)
        tl.store(to + half * CHANNELS, t.to(t_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=_SIZES)
def tail_kernel(
    x_ptr,  # [N * pixels, C]
    u_ptr,  # [N * pixels, C]
    mixer_ptr,  # [N, C, C]
    beta_ptr,  # [C]
    project1_bias_ptr,  # [C]
    norm_weight_ptr,  # [C]
    norm_bias_ptr,  # [C]
    expand_ptr,  # [2C, C]
    expand_bias_ptr,  # [2C]
    gamma_ptr,  # [C]
    project2_ptr,  # [C, C]
    project2_bias_ptr,  # [C]
    y_ptr,  # [N * pixels, C]: x and the first half of the block
    out_ptr,  # [N * pixels, C]
    pixels,
    blocks,  # programs per image
    CHANNELS: tl.constexpr,
    EPS: tl.constexpr,
    ACC: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    program = tl.program_id(0)
    image, first = program // blocks, program % blocks * BLOCK_P
    at, c, inside = _tile(first, pixels, CHANNELS, BLOCK_P, BLOCK_C)
    base = (image.to(tl.int64) * pixels + first) * CHANNELS
    u = tl.load(u_ptr + base + at, mask=inside, other=0.0)
    mixer = _matrix(mixer_ptr + image.to(tl.int64) * CHANNELS * CHANNELS, c, 0, CHANNELS)
    y = _dot(u, tl.trans(mixer), ACC, WIDEN)
    y += (_vector(beta_ptr, c, CHANNELS) * _vector(project1_bias_ptr, c, CHANNELS))[None, :]
    y = (y + tl.load(x_ptr + base + at, mask=inside, other=0.0).to(ACC)).to(u.dtype)
    tl.store(y_ptr + base + at, y, mask=inside)

    normal, _ = _standardise(y.to(ACC), inside, CHANNELS, EPS)
    normed = _affine(normal, norm_weight_ptr, norm_bias_ptr, c, u.dtype, CHANNELS)
    v = _linear(normed, expand_ptr, expand_bias_ptr, c, 0, CHANNELS, ACC, WIDEN)
    v = (v * _linear(normed, expand_ptr, expand_bias_ptr, c, 1, CHANNELS, ACC, WIDEN)).to(u.dtype)
    gamma = _vector(gamma_ptr, c, CHANNELS)
    project2 = (gamma[:, None] * _matrix(project2_ptr, c, 0, CHANNELS)).to(u.dtype)
    out = _dot(v, tl.trans(project2), ACC, WIDEN) + (gamma * _vector(project2_bias_ptr, c, CHANNELS))[None, :]
    tl.store(out_ptr + base + at, (out + y.to(ACC)).to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=_SIZES)
def tail_back_kernel(
    v_out_ptr,  # [rows, C]
    y_ptr,  # [rows, C]
    norm_weight_ptr,  # [C]
    norm_bias_ptr,  # [C]
    expand_ptr,  # [2C, C]
    expand_bias_ptr,  # [2C]
    gamma_ptr,  # [C]
    project2_ptr,  # [C, C]
    v_y_ptr,  # [rows, C]
    partials_ptr,  # [programs, (3C + 3) C]: v_out^T v; v_e^T times the normalised y; sums of v_out and of v_e
    rows,
    CHANNELS: tl.constexpr,
    EPS: tl.constexpr,
    ACC: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    c = tl.arange(0, BLOCK_C)
    dtype: tl.constexpr = y_ptr.dtype.element_ty
    first_half, second_half = (
        _matrix(expand_ptr, c, 0, CHANNELS).to(dtype),
        _matrix(expand_ptr, c, 1, CHANNELS).to(dtype),
    )
    gamma = _vector(gamma_ptr, c, CHANNELS)
    project2 = (gamma[:, None] * _matrix(project2_ptr, c, 0, CHANNELS)).to(dtype)
    product = tl.zeros((BLOCK_C, BLOCK_C), dtype=ACC)
    v_first, v_second = product, product
    total = tl.zeros((BLOCK_C,), dtype=ACC)
    sum_first, sum_second = total, total
    for block in range(tl.program_id(0), tl.cdiv(rows, BLOCK_P), tl.num_programs(0)):
        first = block * BLOCK_P
        at, _, inside = _tile(first, rows, CHANNELS, BLOCK_P, BLOCK_C)
        base = block * tl.full((), BLOCK_P * CHANNELS, tl.int64)
        g = tl.load(v_out_ptr + base + at, mask=inside, other=0.0)
        y = tl.load(y_ptr + base + at, mask=inside, other=0.0).to(ACC)
        normal, inverse = _standardise(y, inside, CHANNELS, EPS)
        normed = _affine(normal, norm_weight_ptr, norm_bias_ptr, c, dtype, CHANNELS)
        e1 = _dot(normed, tl.trans(first_half), ACC, WIDEN) + _vector(expand_bias_ptr, c, CHANNELS)[None, :]
        e2 = _dot(normed, tl.trans(second_half), ACC, WIDEN) + _vector(expand_bias_ptr + CHANNELS, c, CHANNELS)[None, :]
        product += _dot(tl.trans(g), (e1 * e2).to(dtype), ACC, WIDEN)
        total += tl.sum(g.to(ACC), axis=0)
        v_gated = _dot(g, project2, ACC, WIDEN)
        v_e1, v_e2 = (v_gated * e2).to(dtype), (v_gated * e1).to(dtype)
        v_first += _dot(tl.trans(v_e1), normal.to(dtype), ACC, WIDEN)
        v_second += _dot(tl.trans(v_e2), normal.to(dtype), ACC, WIDEN)
        sum_first += tl.sum(v_e1.to(ACC), axis=0)
        sum_second += tl.sum(v_e2.to(ACC), axis=0)
        v_normed = _dot(v_e1, first_half, ACC, WIDEN) + _dot(v_e2, second_half, ACC, WIDEN)
        v_y = _through_norm(v_normed, _vector(norm_weight_ptr, c, CHANNELS), normal, inverse, CHANNELS) + g.to(ACC)
        tl.store(v_y_ptr + base + at, v_y.to(dtype), mask=inside)

    to = partials_ptr + tl.program_id(0).to(tl.int64) * ((3 * CHANNELS + 3) * CHANNELS)
    to = _store_matrix(to, product, c, CHANNELS)
    to = _store_matrix(to, v_first, c, CHANNELS)
    to = _store_matrix(to, v_second, c, CHANNELS)
    to = _store_vector(to, total, c, CHANNELS)
    to = _store_vector(to, sum_first, c, CHANNELS)
    _store_vector(to, sum_second, c, CHANNELS)


@triton.jit(do_not_specialize=_SIZES)
def products_kernel(
    v_y_ptr,  # [N * pixels, C]
    u_ptr,  # [N * pixels, C]
    partials_ptr,  # [N * parts, (C + 1) C]: v_y^T u, and the sums of v_y
    pixels,
    parts,  # programs per image
    CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    program = tl.program_id(0)
    c = tl.arange(0, BLOCK_C)
    product = tl.zeros((BLOCK_C, BLOCK_C), dtype=ACC)
    total = tl.zeros((BLOCK_C,), dtype=ACC)
    for block in range(program % parts, tl.cdiv(pixels, BLOCK_P), parts):
        first = block * BLOCK_P
        at, _, inside = _tile(first, pixels, CHANNELS, BLOCK_P, BLOCK_C)
        base = ((program // parts).to(tl.int64) * pixels + first) * CHANNELS
        v_y = tl.load(v_y_ptr + base + at, mask=inside, other=0.0)
        u = tl.load(u_ptr + base + at, mask=inside, other=0.0)
        product += _dot(tl.trans(v_y), u, ACC, WIDEN)
        total += tl.sum(v_y.to(ACC), axis=0)
    to = partials_ptr + program.to(tl.int64) * ((CHANNELS + 1) * CHANNELS)
    to = _store_matrix(to, product, c, CHANNELS)
    _store_vector(to, total, c, CHANNELS)


@triton.jit(do_not_specialize=_SIZES)
def expand_back_kernel(
    v_t_ptr,  # [rows, 2C]
    x_ptr,  # [rows, C]
    v_y_ptr,  # [rows, C], added to v_x
    norm_weight_ptr,  # [C]
    expand_ptr,  # [2C, C]
    v_x_ptr,  # [rows, C]
    partials_ptr,  # [programs, (2C + 2) C]: v_t^T times the normalised x; sums of v_t
    rows,
    CHANNELS: tl.constexpr,
    EPS: tl.constexpr,
    ACC: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    c = tl.arange(0, BLOCK_C)
    dtype: tl.constexpr = x_ptr.dtype.element_ty
    first_half, second_half = (
        _matrix(expand_ptr, c, 0, CHANNELS).to(dtype),
        _matrix(expand_ptr, c, 1, CHANNELS).to(dtype),
    )
    norm_weight = _vector(norm_weight_ptr, c, CHANNELS)
    v_first = tl.zeros((BLOCK_C, BLOCK_C), dtype=ACC)
    v_second = v_first
    sum_first = tl.zeros((BLOCK_C,), dtype=ACC)
    sum_second = sum_first
    for block in range(tl.program_id(0), tl.cdiv(rows, BLOCK_P), tl.num_programs(0)):
        at, _, inside = _tile(block * BLOCK_P, rows, CHANNELS, BLOCK_P, BLOCK_C)
        base = block * tl.full((), BLOCK_P * CHANNELS, tl.int64)
        x = tl.load(x_ptr + base + at, mask=inside, other=0.0).to(ACC)
        normal, inverse = _standardise(x, inside, CHANNELS, EPS)
        wide = v_t_ptr + 2 * base + tl.arange(0, BLOCK_P)[:, None] * (2 * CHANNELS) + c[None, :]
        v_t1 = tl.load(wide, mask=inside, other=0.0)
        v_t2 = tl.load(wide + CHANNELS, mask=inside, other=0.0)
        v_first += _dot(tl.trans(v_t1), normal.to(dtype), ACC, WIDEN)
        v_second += _dot(tl.trans(v_t2), normal.to(dtype), ACC, WIDEN)
        sum_first += tl.sum(v_t1.to(ACC), axis=0)
        sum_second += tl.sum(v_t2.to(ACC), axis=0)
        v_normed = _dot(v_t1, first_half, ACC, WIDEN) + _dot(v_t2, second_half, ACC, WIDEN)
        v_x = _through_norm(v_normed, norm_weight, normal, inverse, CHANNELS)
        v_x += tl.load(v_y_ptr + base + at, mask=inside, other=0.0).to(ACC)
        tl.store(v_x_ptr + base + at, v_x.to(dtype), mask=inside)

    to = partials_ptr + tl.program_id(0).to(tl.int64) * ((2 * CHANNELS + 2) * CHANNELS)
    to = _store_matrix(to, v_first, c, CHANNELS)
    to = _store_matrix(to, v_second, c, CHANNELS)
    to = _store_vector(to, sum_first, c, CHANNELS)
    _store_vector(to, sum_second, c, CHANNELS)


@triton.jit
def _tile(first, rows, CHANNELS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    # Offsets [P, C] from the first row's, the channels [C], and which elements exist.
    row, c = tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_C)
    return row[:, None] * CHANNELS + c[None, :], c, (row < rows - first)[:, None] & (c < CHANNELS)[None, :]


@triton.jit
def _vector(ptr, c, CHANNELS: tl.constexpr):
    return tl.load(ptr + c, mask=c < CHANNELS, other=0.0)


@triton.jit
def _matrix(ptr, c, half, CHANNELS: tl.constexpr):
    # [to, from] of a half of the matrix's rows.
    at = (half * CHANNELS + c)[:, None] * CHANNELS + c[None, :]
    return tl.load(ptr + at, mask=(c < CHANNELS)[:, None] & (c < CHANNELS)[None, :], other=0.0)


@triton.jit
def _affine(normal, weight_ptr, bias_ptr, c, dtype: tl.constexpr, CHANNELS: tl.constexpr):
    return (normal * _vector(weight_ptr, c, CHANNELS)[None, :] + _vector(bias_ptr, c, CHANNELS)[None, :]).to(dtype)


@triton.jit
def _linear(rows, weight_ptr, bias_ptr, c, half, CHANNELS: tl.constexpr, ACC: tl.constexpr, WIDEN: tl.constexpr):
    # A half of rows times a matrix [2C, C], plus its bias.
    matrix = _matrix(weight_ptr, c, half, CHANNELS).to(rows.dtype)
    return _dot(rows, tl.trans(matrix), ACC, WIDEN) + _vector(bias_ptr + half * CHANNELS, c, CHANNELS)[None, :]


@triton.jit
def _dot(a, b, ACC: tl.constexpr, WIDEN: tl.constexpr):
    if WIDEN:
        a, b = a.to(ACC), b.to(ACC)
    return tl.dot(a, b, input_precision="ieee", out_dtype=ACC)


@triton.jit
def _through_norm(v_normed, weight, normal, inverse, CHANNELS: tl.constexpr):
    # With g = v_normed * weight: (g - mean_c(g) - normal * mean_c(g * normal)) / deviation.
    g = v_normed * weight[None, :]
    mean, along = tl.sum(g, axis=1) / CHANNELS, tl.sum(g * normal, axis=1) / CHANNELS
    return (g - mean[:, None] - normal * along[:, None]) * inverse[:, None]


@triton.jit
def _store_matrix(to, matrix, c, CHANNELS: tl.constexpr):
    mask = (c < CHANNELS)[:, None] & (c < CHANNELS)[None, :]
    tl.store(to + c[:, None] * CHANNELS + c[None, :], matrix, mask=mask)
    return to + CHANNELS * CHANNELS


@triton.jit
def _store_vector(to, vector, c, CHANNELS: tl.constexpr):
    tl.store(to + c, vector, mask=c < CHANNELS)
    return to + CHANNELS
