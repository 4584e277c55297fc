"""Triton kernels of pixel_shuffle_skip: rows of channels in, rows of channels out, nothing transposed in memory.

Compiled for sm_90 and run by the interpreter; not yet measured on a GPU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rgsud_fast.ops._layout import in_layout_of

from ._launch import accumulator, on_device

_ELEMENTS = 512  # of each of the four pixels that one becomes, per program: 16 a thread in all


def forward(x: Tensor, skip: Tensor) -> Tensor:
    """pixel_shuffle(x, 2) + skip."""
    rows, more = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, skip))
    out = torch.empty_like(more)
    _launch(shuffle_kernel, rows, more, out)
    return in_layout_of(x, out)


def backward(v_out: Tensor) -> Tensor:
    """Gradient at x; the one at skip is v_out."""
    images, channels, height, width = v_out.shape
    rows = v_out.contiguous(memory_format=torch.channels_last)
    v_x = torch.empty(
        (images, 4 * channels, height // 2, width // 2),
        dtype=v_out.dtype, device=v_out.device, memory_format=torch.channels_last,
    )  # fmt: skip
    _launch(unshuffle_kernel, v_x, rows)
    return in_layout_of(v_out, v_x)


@triton.jit(do_not_specialize=["width", "pixels"])
def shuffle_kernel(
    x_ptr,  # [N * H, W, 4C]
    skip_ptr,  # [N * 2H, 2W, C]
    out_ptr,  # as skip
    width,
    pixels,  # N * H * W
    channels,  # C
    ACC: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    at, inside, to, there = _places(width, pixels, channels, BLOCK_P, BLOCK_C)
    x = tl.load(x_ptr + at, mask=inside, other=0.0)
    left, right = tl.split(tl.reshape(x, (BLOCK_P, BLOCK_C, 2, 2)))  # the channels of a pixel are [C, row, column]
    row = 2 * width * channels
    upper_left, lower_left = tl.split(left)
    upper_right, lower_right = tl.split(right)
    _add(upper_left, skip_ptr, out_ptr, to, there, ACC)
    _add(upper_right, skip_ptr, out_ptr, to + channels, there, ACC)
    _add(lower_left, skip_ptr, out_ptr, to + row, there, ACC)
    _add(lower_right, skip_ptr, out_ptr, to + row + channels, there, ACC)


@triton.jit(do_not_specialize=["width", "pixels"])
def unshuffle_kernel(
    v_x_ptr,  # [N * H, W, 4C]
    v_out_ptr,  # [N * 2H, 2W, C]
    width,
    pixels,  # N * H * W
    channels,  # C
    ACC: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    at, inside, to, there = _places(width, pixels, channels, BLOCK_P, BLOCK_C)
    row = 2 * width * channels
    upper_left = tl.load(v_out_ptr + to, mask=there, other=0.0)
    upper_right = tl.load(v_out_ptr + to + channels, mask=there, other=0.0)
    lower_left = tl.load(v_out_ptr + to + row, mask=there, other=0.0)
    lower_right = tl.load(v_out_ptr + to + row + channels, mask=there, other=0.0)
    v_x = tl.join(tl.join(upper_left, lower_left), tl.join(upper_right, lower_right))
    tl.store(v_x_ptr + at, tl.reshape(v_x, (BLOCK_P, 4 * BLOCK_C)), mask=inside)


@triton.jit
def _places(width, pixels, channels, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    # Offsets in x [P, 4C], and in the larger image [P, C] of the upper left of the four pixels; and what exists.
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)  # 32 bits: 2^31 pixels of four channels fit no GPU
    many = tl.program_id(1) * 4 * BLOCK_C + tl.arange(0, 4 * BLOCK_C)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    at = p.to(tl.int64)[:, None] * (4 * channels) + many[None, :]
    to = ((p // width).to(tl.int64) * 4 * width + 2 * (p % width)) * channels
    inside = p < pixels
    return (
        at, inside[:, None] & (many < 4 * channels)[None, :],
        to[:, None] + c[None, :], inside[:, None] & (c < channels)[None, :],
    )  # fmt: skip


@triton.jit
def _add(x, skip_ptr, out_ptr, at, there, ACC: tl.constexpr):
    out = x.to(ACC) + tl.load(skip_ptr + at, mask=there, other=0.0).to(ACC)
    tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), mask=there)


def _launch(kernel, small: Tensor, *large: Tensor) -> None:
    images, channels, height, width = small.shape
    block_c = min(64, triton.next_power_of_2(channels // 4))
    block_p = _ELEMENTS // block_c
    pixels = images * height * width
    with on_device(small):
        kernel[(triton.cdiv(pixels, block_p), triton.cdiv(channels // 4, block_c))](
            small, *large, width, pixels, channels // 4, ACC=accumulator(small),
            BLOCK_P=block_p, BLOCK_C=block_c,
        )  # fmt: skip
