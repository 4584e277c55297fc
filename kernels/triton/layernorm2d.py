"""Triton kernels of layernorm2d: a program owns a block of neighbouring pixels and all their channels.

Compiled for sm_90 and run by the interpreter; not yet measured on a GPU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._launch import on_device

# Elements a program holds: with up to 64 channels that is 64 pixels of them, 32 KB of float32 in x and v_out.
_ELEMENTS = 4096


def forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias."""
    out = torch.empty_like(x)
    channels, pixels, blocks, block_c, block_p = _sizes(x)
    with on_device(x):
        fwd_kernel[(x.shape[0] * blocks,)](
            x, weight, bias, out, channels, pixels, blocks, eps, BLOCK_C=block_c, BLOCK_P=block_p
        )
    return out


def backward(v_out: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients at x, weight and bias; the statistics are made again, which costs no pass over memory."""
    v_x = torch.empty_like(x)
    channels, pixels, blocks, block_c, block_p = _sizes(x)
    programs = x.shape[0] * blocks
    partials = weight.new_empty(2, programs, channels)
    with on_device(x):
        bwd_kernel[(programs,)](
            v_out, x, weight, v_x, partials, channels, pixels, blocks, eps, BLOCK_C=block_c, BLOCK_P=block_p
        )
    # The second pass of the sums, in a fixed order.
    v_weight, v_bias = partials.sum(1)
    return v_x, v_weight, v_bias


@triton.jit
def fwd_kernel(
    x_ptr,  # [N, C, pixels]
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    out_ptr,  # [N, C, pixels]
    channels,
    pixels,
    blocks,
    eps: tl.constexpr,  # a float argument is float32, too coarse for float64
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    at, c, inside = _place(channels, pixels, blocks, BLOCK_C, BLOCK_P)
    acc: tl.constexpr = weight_ptr.dtype.element_ty
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(acc)
    normal, _ = _normalise(x, inside, channels, eps)

    weight = tl.load(weight_ptr + c, mask=c < channels, other=0.0)
    bias = tl.load(bias_ptr + c, mask=c < channels, other=0.0)
    out = normal * weight[:, None] + bias[:, None]
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def bwd_kernel(
    v_out_ptr,  # [N, C, pixels]
    x_ptr,  # [N, C, pixels]
    weight_ptr,  # [C]
    v_x_ptr,  # [N, C, pixels]
    partials_ptr,  # [2, programs, C]: of v_weight, of v_bias
    channels,
    pixels,
    blocks,
    eps: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    at, c, inside = _place(channels, pixels, blocks, BLOCK_C, BLOCK_P)
    acc: tl.constexpr = weight_ptr.dtype.element_ty
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(acc)
    v_out = tl.load(v_out_ptr + at, mask=inside, other=0.0).to(acc)
    normal, inverse = _normalise(x, inside, channels, eps)

    # With g = v_out * weight: v_x = (g - mean_c(g) - normal * mean_c(g * normal)) * inverse.
    weight = tl.load(weight_ptr + c, mask=c < channels, other=0.0)
    g = v_out * weight[:, None]
    mean = tl.sum(g, axis=0) / channels
    along = tl.sum(g * normal, axis=0) / channels
    v_x = (g - mean[None, :] - normal * along[None, :]) * inverse[None, :]
    tl.store(v_x_ptr + at, v_x.to(v_x_ptr.dtype.element_ty), mask=inside)

    to = partials_ptr + tl.program_id(0).to(tl.int64) * channels + c
    tl.store(to, tl.sum(v_out * normal, axis=1), mask=c < channels)
    tl.store(to + tl.num_programs(0).to(tl.int64) * channels, tl.sum(v_out, axis=1), mask=c < channels)


@triton.jit
def _place(channels, pixels, blocks, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr):
    # Offsets [C, P] of this program's elements, its channels [C], and which elements exist.
    program = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK_C).to(tl.int64)
    p = program % blocks * BLOCK_P + tl.arange(0, BLOCK_P)
    at = (program // blocks * channels + c[:, None]) * pixels + p[None, :]
    return at, c, (c[:, None] < channels) & (p[None, :] < pixels)


@triton.jit
def _normalise(x, inside, channels, eps):
    # x without its mean over the channels, over its deviation [C, P]; and 1 / deviation [P].
    centred = tl.where(inside, x - (tl.sum(x, axis=0) / channels)[None, :], 0.0)
    inverse = 1 / tl.sqrt(tl.sum(centred * centred, axis=0) / channels + eps)
    return centred * inverse[None, :], inverse


def _sizes(x: Tensor) -> tuple[int, int, int, int, int]:
    # channels, pixels per image, programs per image, and the block's two sides
    channels, pixels = x.shape[1], x.shape[2] * x.shape[3]
    block_c = triton.next_power_of_2(channels)
    block_p = max(16, min(_ELEMENTS // block_c, triton.next_power_of_2(pixels)))
    return channels, pixels, triton.cdiv(pixels, block_p), block_c, block_p
