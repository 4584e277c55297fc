"""Triton kernel of clip_preprocess: one program makes a row of a channel, from the pixels it needs.

Compiled for sm_90 and run by the interpreter; not yet measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from rgsud_fast.ops._taps import Taps

from ._launch import accumulator, on_device

_CHUNK = 16  # taps along a row that are read at once


def forward(
    images: Tensor, side: int, down: Taps, across: Taps, mean: Sequence[float], deviation: Sequence[float]
) -> Tensor:
    """[N, 3, H, W] -> [N, 3, side, side]; mean and deviation are of the three channels."""
    out = torch.empty(len(images), 3, side, side, dtype=images.dtype, device=images.device)
    with on_device(images):
        resize_kernel[(side, 3 * len(images))](
            images,
            out,
            *down,
            *across,
            images.shape[2],
            images.shape[3],
            side,
            *mean,
            *deviation,
            ROWS=down.place.shape[1],
            COLUMNS=across.place.shape[1],
            CHUNK=_CHUNK,
            ACC=accumulator(images),
            BLOCK=triton.next_power_of_2(side),
        )
    return out


@triton.jit(do_not_specialize=["height", "width"])  # images of any size
def resize_kernel(
    images_ptr,  # [N, 3, height, width]
    out_ptr,  # [N, 3, side, side]
    down_index_ptr,  # [side, ROWS]
    down_weight_ptr,  # [side, ROWS]
    across_index_ptr,  # [side, COLUMNS]
    across_weight_ptr,  # [side, COLUMNS]
    height,
    width,
    side,
    mean_red,
    mean_green,
    mean_blue,
    deviation_red,
    deviation_green,
    deviation_blue,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    y, plane = tl.program_id(0), tl.program_id(1).to(tl.int64)
    x, k = tl.arange(0, BLOCK), tl.arange(0, CHUNK)
    inside = x < side
    total = tl.zeros((BLOCK,), dtype=ACC)
    for row in range(ROWS):
        line = (plane * height + tl.load(down_index_ptr + y * ROWS + row)) * width
        weight = tl.load(down_weight_ptr + y * ROWS + row).to(ACC)
        for column in range(0, COLUMNS, CHUNK):
            taps = x[:, None] * COLUMNS + column + k[None, :]
            mask = inside[:, None] & (column + k < COLUMNS)[None, :]
            at = line + tl.load(across_index_ptr + taps, mask=mask, other=0)
            along = tl.load(across_weight_ptr + taps, mask=mask, other=0.0).to(ACC)
            value = tl.load(images_ptr + at, mask=mask, other=0.0).to(ACC)
            value = tl.where(value < 0.0, 0.0, tl.where(value > 1.0, 1.0, value))  # NaN stays
            total += weight * tl.sum(along * value, axis=1)
    channel = plane % 3
    mean = tl.where(channel == 0, mean_red, tl.where(channel == 1, mean_green, mean_blue))
    deviation = tl.where(channel == 0, deviation_red, tl.where(channel == 1, deviation_green, deviation_blue))
    to = out_ptr + (plane * side + y) * side + x
    tl.store(to, ((total - mean) / deviation).to(out_ptr.dtype.element_ty), mask=inside)
