"""Triton kernels of instance_norm_lrelu: a program owns some channels of one image and walks its pixels.

Read along the channels where they lie last. Two passes forward (statistics, then the result), two backward; the planes
of the discriminator fit the second-level cache, so the second pass reads from there. Compiled for sm_90 and run by the
interpreter; not yet measured on a GPU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._launch import accumulator, on_device

_PIXELS, _CHANNELS = 128, 16  # a program's block


def forward(x: Tensor, slope: float, eps: float) -> Tensor:
    """lrelu((x - mean) / sqrt(var + eps)) of each plane."""
    out = torch.empty_like(x)
    _launch(fwd_kernel, x, out, slope, eps)
    return out


def backward(v_out: Tensor, x: Tensor, slope: float, eps: float) -> Tensor:
    """Gradient at x."""
    if v_out.stride() != x.stride():
        v_out = torch.empty_like(x).copy_(v_out)
    v_x = torch.empty_like(x)
    _launch(bwd_kernel, x, v_x, slope, eps, v_out)
    return v_x


@triton.jit
def fwd_kernel(
    x_ptr,  # [N, C, H, W]
    out_ptr,  # as x
    width,
    pixels,  # per plane
    channels,
    stride_n,
    stride_c,
    stride_h,
    stride_w,
    slope,
    eps,
    ACC: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    plane, c = _plane(channels, stride_n, stride_c, BLOCK_C)
    mean, inverse = _statistics(
        x_ptr + plane, c, channels, width, pixels, stride_h, stride_w, eps, ACC, BLOCK_P, BLOCK_C
    )
    for begin in range(0, pixels, BLOCK_P):
        at, inside = _block(begin, c, channels, width, pixels, stride_h, stride_w, BLOCK_P)
        x = tl.load(x_ptr + plane[None, :] + at, mask=inside, other=0.0).to(ACC)
        normal = (x - mean[None, :]) * inverse[None, :]
        out = tl.where(normal > 0, normal, normal * slope)
        tl.store(out_ptr + plane[None, :] + at, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def bwd_kernel(
    x_ptr,  # [N, C, H, W]
    v_x_ptr,  # as x
    v_out_ptr,  # as x
    width,
    pixels,
    channels,
    stride_n,
    stride_c,
    stride_h,
    stride_w,
    slope,
    eps,
    ACC: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    plane, c = _plane(channels, stride_n, stride_c, BLOCK_C)
    mean, inverse = _statistics(
        x_ptr + plane, c, channels, width, pixels, stride_h, stride_w, eps, ACC, BLOCK_P, BLOCK_C
    )
    # With n the normalised x and g = v_out * lrelu'(n): v_x = (g - mean(g) - n * mean(g * n)) * inverse.
    total = tl.zeros((BLOCK_C,), dtype=ACC)
    along = tl.zeros((BLOCK_C,), dtype=ACC)
    for begin in range(0, pixels, BLOCK_P):
        at, inside = _block(begin, c, channels, width, pixels, stride_h, stride_w, BLOCK_P)
        x = tl.load(x_ptr + plane[None, :] + at, mask=inside, other=0.0).to(ACC)
        v = tl.load(v_out_ptr + plane[None, :] + at, mask=inside, other=0.0).to(ACC)
        normal = (x - mean[None, :]) * inverse[None, :]
        g = tl.where(normal > 0, v, v * slope)
        total += tl.sum(g, axis=0)
        along += tl.sum(g * normal, axis=0)
    total, along = total / pixels, along / pixels
    for begin in range(0, pixels, BLOCK_P):
        at, inside = _block(begin, c, channels, width, pixels, stride_h, stride_w, BLOCK_P)
        x = tl.load(x_ptr + plane[None, :] + at, mask=inside, other=0.0).to(ACC)
        v = tl.load(v_out_ptr + plane[None, :] + at, mask=inside, other=0.0).to(ACC)
        normal = (x - mean[None, :]) * inverse[None, :]
        g = tl.where(normal > 0, v, v * slope)
        v_x = (g - total[None, :] - normal * along[None, :]) * inverse[None, :]
        tl.store(v_x_ptr + plane[None, :] + at, v_x.to(v_x_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _plane(channels, stride_n, stride_c, BLOCK_C: tl.constexpr):
    # Where this program's planes begin [C], and their channels.
    blocks = tl.cdiv(channels, BLOCK_C)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    c = tl.program_id(0) % blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    return image * stride_n + c.to(tl.int64) * stride_c, c


@triton.jit
def _block(begin, c, channels, width, pixels, stride_h, stride_w, BLOCK_P: tl.constexpr):
    # Offsets [P, 1] of a stretch of pixels, and which elements [P, C] exist.
    p = begin + tl.arange(0, BLOCK_P)
    at = (p // width).to(tl.int64) * stride_h + p % width * stride_w
    return at[:, None], (p < pixels)[:, None] & (c < channels)[None, :]


@triton.jit
def _statistics(
    x_ptr, c, channels, width, pixels, stride_h, stride_w, eps,
    ACC: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    # Mean and 1 / sqrt(var + eps) of each plane [C]: Chan's merging of blocks, in which no large sums cancel.
    mean = tl.zeros((BLOCK_C,), dtype=ACC)
    square = tl.zeros((BLOCK_C,), dtype=ACC)
    for begin in range(0, pixels, BLOCK_P):
        at, inside = _block(begin, c, channels, width, pixels, stride_h, stride_w, BLOCK_P)
        x = tl.load(x_ptr[None, :] + at, mask=inside, other=0.0).to(ACC)
        count = tl.minimum(pixels - begin, BLOCK_P).to(ACC)
        seen = tl.minimum(pixels, begin + BLOCK_P).to(ACC)
        block_mean = tl.sum(x, axis=0) / count
        centred = tl.where(inside, x - block_mean[None, :], 0.0)
        away = block_mean - mean
        square += tl.sum(centred * centred, axis=0) + away * away * ((seen - count) * count / seen)
        mean += away * (count / seen)
    return mean, 1 / tl.sqrt(square / pixels + eps)


def _launch(kernel, x: Tensor, out: Tensor, slope: float, eps: float, *more: Tensor) -> None:
    images, channels, height, width = x.shape
    with on_device(x):
        kernel[(images * triton.cdiv(channels, _CHANNELS),)](
            x, out, *more, width, height * width, channels, *x.stride(), slope, eps,
            ACC=accumulator(x), BLOCK_P=_PIXELS, BLOCK_C=_CHANNELS,
        )  # fmt: skip
