"""Triton kernels of nafblock's attention: it is folded into project1's matrix, one for each image, and out of it."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["blocks", "pixels"])
def mix_kernel(
    partials_ptr,  # [N, blocks, C]: sums of u
    attention_ptr,  # [C, C]
    attention_bias_ptr,  # [C]
    beta_ptr,  # [C]
    project1_ptr,  # [C, C]
    mean_ptr,  # [N, C]: of u
    mixer_ptr,  # [N, C, C]: beta * project1 * attention(mean), which is project1's part for every image
    blocks,
    pixels,
    channels,
    BLOCK_B: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_F: tl.constexpr,
):
    image, c, there = _columns(channels, BLOCK_F)
    scale = tl.load(attention_bias_ptr + c, mask=there, other=0.0)
    for begin in range(0, channels, BLOCK_T):
        k = begin + tl.arange(0, BLOCK_T)
        mean = total(partials_ptr + image * blocks * channels, blocks, channels, k, k < channels, BLOCK_B) / pixels
        tl.store(mean_ptr + image * channels + k, mean, mask=(k < channels) & (tl.program_id(1) == 0))
        scale += _attended(attention_ptr, c, k, mean, channels)
    for begin in range(0, channels, BLOCK_T):
        at, inside, folded = _folded(project1_ptr, beta_ptr, begin, c, channels, BLOCK_T)
        mixer = (folded * scale[None, :]).to(mixer_ptr.dtype.element_ty)
        tl.store(mixer_ptr + image * (channels * channels) + at, mixer, mask=inside)


@triton.jit(do_not_specialize=["stride", "pixels"])
def mix_back_kernel(
    products_ptr,  # [N, to, from], images `stride` apart: v_y^T u
    mean_ptr,  # [N, C]
    attention_ptr,  # [C, C]
    attention_bias_ptr,  # [C]
    beta_ptr,  # [C]
    project1_ptr,  # [C, C]
    scale_ptr,  # [N, C]: attention(mean)
    v_scale_ptr,  # [N, C]
    mixer_ptr,  # [N, C, C], as above
    v_mean_ptr,  # [N, tiles, C]: parts of the gradient at u that comes through its mean
    stride,
    pixels,
    channels,
    BLOCK_T: tl.constexpr,
    BLOCK_F: tl.constexpr,
):
    image, c, there = _columns(channels, BLOCK_F)
    scale = tl.load(attention_bias_ptr + c, mask=there, other=0.0)
    for begin in range(0, channels, BLOCK_T):
        k = begin + tl.arange(0, BLOCK_T)
        mean = tl.load(mean_ptr + image * channels + k, mask=k < channels, other=0.0)
        scale += _attended(attention_ptr, c, k, mean, channels)
    v_scale = tl.zeros((BLOCK_F,), dtype=scale.dtype)
    for begin in range(0, channels, BLOCK_T):
        at, inside, folded = _folded(project1_ptr, beta_ptr, begin, c, channels, BLOCK_T)
        product = tl.load(products_ptr + image * stride + at, mask=inside, other=0.0).to(scale.dtype)
        v_scale += tl.sum(product * folded, axis=0)
        mixer = (folded * scale[None, :]).to(mixer_ptr.dtype.element_ty)
        tl.store(mixer_ptr + image * (channels * channels) + at, mixer, mask=inside)
    tl.store(scale_ptr + image * channels + c, scale, mask=there)
    tl.store(v_scale_ptr + image * channels + c, v_scale, mask=there)
    to = v_mean_ptr + (image * tl.num_programs(1) + tl.program_id(1)) * channels
    for begin in range(0, channels, BLOCK_T):
        k = begin + tl.arange(0, BLOCK_T)
        inside = there[:, None] & (k < channels)[None, :]
        attention = tl.load(attention_ptr + c[:, None] * channels + k[None, :], mask=inside, other=0.0)
        tl.store(to + k, tl.sum(attention * v_scale[:, None], axis=0) / pixels, mask=k < channels)


@triton.jit
def total(ptr, count, stride, at, inside, BLOCK_B: tl.constexpr):
    # The sum over b of what lies b * stride behind `at`, [T].
    sums = tl.zeros(at.shape, dtype=ptr.dtype.element_ty)
    for begin in range(0, count, BLOCK_B):
        b = begin + tl.arange(0, BLOCK_B)
        mask = (b < count)[:, None] & inside[None, :]
        sums += tl.sum(tl.load(ptr + b.to(tl.int64)[:, None] * stride + at[None, :], mask=mask, other=0.0), axis=0)
    return sums


@triton.jit
def _columns(channels, BLOCK_F: tl.constexpr):
    # This program's image and columns of the matrix, and which of them exist.
    c = tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    return tl.program_id(0).to(tl.int64), c, c < channels


@triton.jit
def _attended(attention_ptr, c, k, mean, channels):
    # What the channels k give to attention(mean) at c.
    inside = (c < channels)[:, None] & (k < channels)[None, :]
    attention = tl.load(attention_ptr + c[:, None] * channels + k[None, :], mask=inside, other=0.0)
    return tl.sum(attention * mean[None, :], axis=1)


@triton.jit
def _folded(project1_ptr, beta_ptr, begin, c, channels, BLOCK_T: tl.constexpr):
    # Rows of beta * project1 at the columns c, with their offsets and which exist.
    r = begin + tl.arange(0, BLOCK_T)
    at, inside = r[:, None] * channels + c[None, :], (r < channels)[:, None] & (c < channels)[None, :]
    project1 = tl.load(project1_ptr + at, mask=inside, other=0.0)
    beta = tl.load(beta_ptr + r, mask=r < channels, other=0.0)
    return at, inside, beta[:, None] * project1
