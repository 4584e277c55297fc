"""Triton kernel of take_crops: a program makes a block of pixels of one crop, and of its rewards from the same places.

Compiled for sm_90 and run by the interpreter; not yet measured on a GPU.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ._launch import on_device

_PIXELS = 256  # of a program


def forward(
    pixels: Tensor,
    windows: Tensor,
    versions: Tensor | None,
    shares: Tensor | None,
    crops: Tensor,
    rewards: Tensor | None,
) -> None:
    """Fill crops, and rewards where there are versions."""
    side, kept = crops.shape[2], 0 if versions is None else len(versions)
    shares = windows if shares is None else shares.contiguous()  # not read without versions
    with on_device(pixels):
        crops_kernel[(triton.cdiv(side * side, _PIXELS), len(windows))](
            pixels,
            pixels if versions is None else versions,
            windows,
            shares,
            crops,
            crops if rewards is None else rewards,
            len(pixels),
            side,
            *crops.stride(),
            KEPT=kept,
            BLOCK=_PIXELS,
        )


@triton.jit
def crops_kernel(
    pixels_ptr,  # [bytes]
    versions_ptr,  # [KEPT, bytes]
    windows_ptr,  # [N, 6]: offset, height, width, top, left, flip
    shares_ptr,  # [N, KEPT]
    crops_ptr,  # [N, 3, side, side]
    rewards_ptr,  # as crops
    size,  # bytes
    side,
    stride_n,
    stride_c,
    stride_h,
    stride_w,
    KEPT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    n = tl.program_id(1).to(tl.int64)
    window = windows_ptr + 6 * n
    offset, height, width = tl.load(window), tl.load(window + 1), tl.load(window + 2)
    top, left, flip = tl.load(window + 3), tl.load(window + 4), tl.load(window + 5)

    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    r, c = p // side, p % side
    inside = p < side * side
    row = _reflect(top + r, height)
    column = _reflect(left + tl.where(flip > 0, side - 1 - c, c), width)
    first = offset + 3 * (row * width + column)
    to = n * stride_n + r * stride_h + c * stride_w
    for channel in tl.static_range(3):
        at = first + channel
        readable = inside & (at >= 0) & (at < size)
        value = tl.load(pixels_ptr + at, mask=readable, other=0).to(tl.float32)
        tl.store(crops_ptr + to + channel * stride_c, tl.div_rn(value, 255.0), mask=inside)
        if KEPT:
            total = tl.zeros((BLOCK,), dtype=tl.float32)
            for k in range(KEPT):
                version = tl.load(versions_ptr + k * size.to(tl.int64) + at, mask=readable, other=0).to(tl.float32)
                total += tl.load(shares_ptr + n * KEPT + k) * tl.div_rn(version, 255.0)
            tl.store(rewards_ptr + to + channel * stride_c, total, mask=inside)


@triton.jit
def _reflect(at, size):
    period = tl.maximum(2 * (size - 1), 1)
    at = at % period
    return tl.where(at < size, at, period - at)
