"""Triton kernels of nafblock: normalisation and what stands beside it, on rows of channels."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["rows"])
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


@triton.jit(do_not_specialize=["rows"])
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


@triton.jit(do_not_specialize=["rows"])
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


@triton.jit(do_not_specialize=["rows"])
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
