"""Triton kernels of pool_update: one program lets the candidates in, one after another; then blocks of pixels of what
stays are copied.

Compiled for sm_90 and run by the interpreter; not yet measured on a GPU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._launch import on_device

_PIXELS = 512  # of a program


def forward(
    arena: Tensor, scores: Tensor, images: Tensor, values: Tensor, places: Tensor, margin: float, entered: Tensor
) -> None:
    """Change arena and scores, and fill `entered`."""
    count, _, height, width = images.shape
    pixels, (entries, slots) = height * width, scores.shape
    slot = torch.empty(count, dtype=torch.int32, device=arena.device)
    with on_device(arena):
        enter_kernel[(1,)](
            scores,
            values,
            places,
            slot,
            entered.view(torch.uint8),
            count,
            entries,
            slots,
            arena.shape[1] - 3 * pixels,
            margin,
            SLOTS=max(triton.next_power_of_2(slots), 2),
            num_warps=1,
        )
        copy_kernel[(triton.cdiv(pixels, _PIXELS), count)](
            arena, images, places, slot, arena.shape[1], count, pixels, width, *images.stride(), BLOCK=_PIXELS,
            enable_fp_fusion=False,
        )  # fmt: skip


@triton.jit(do_not_specialize=["count", "entries", "slots", "last_offset"])  # sets and batches of any size
def enter_kernel(
    scores_ptr,  # [entries, slots]
    values_ptr,  # [count]
    places_ptr,  # [count, 2]: entry, offset
    slot_ptr,  # [count] where a candidate goes, -1: nowhere
    entered_ptr,  # [count]
    count,
    entries,
    slots,
    last_offset,
    margin,
    SLOTS: tl.constexpr,
):
    k = tl.arange(0, SLOTS)
    for m in range(count):
        value = tl.load(values_ptr + m)
        entry, offset = tl.load(places_ptr + 2 * m), tl.load(places_ptr + 2 * m + 1)
        there = (entry >= 0) & (entry < entries) & (offset >= 0) & (offset <= last_offset)
        row = scores_ptr + tl.where(there, entry, 0) * slots
        kept = tl.load(row + k, mask=k < slots, other=float("inf"))
        worst, slot = tl.min(kept, axis=0), tl.argmin(kept, axis=0)
        finite = (value == value) & (value != float("inf")) & (value != float("-inf"))
        enters = there & finite & (value > tl.where(worst == float("-inf"), worst, worst + margin))
        tl.debug_barrier()  # the row is read before it changes, and changes before the next candidate reads it
        tl.store(row + k, tl.where(k == tl.where(enters, slot, -1), value, kept), mask=k < slots)
        tl.store(slot_ptr + m, tl.where(enters, slot, -1))
        tl.store(entered_ptr + m, enters.to(tl.uint8))
        tl.debug_barrier()


@triton.jit(do_not_specialize=["size", "count", "pixels", "width"])  # images of any size
def copy_kernel(
    arena_ptr,  # [slots, size]
    images_ptr,  # [count, 3, height, width]
    places_ptr,  # [count, 2]: entry, offset
    slot_ptr,  # [count]
    size,  # bytes of a slot
    count,
    pixels,
    width,
    stride_n,
    stride_c,
    stride_h,
    stride_w,
    BLOCK: tl.constexpr,
):
    m = tl.program_id(1)
    slot = tl.load(slot_ptr + m)
    entry, offset = tl.load(places_ptr + 2 * m), tl.load(places_ptr + 2 * m + 1)
    takers = tl.zeros((), dtype=tl.int32)
    for later in range(m + 1, count):  # of its place
        takers += ((tl.load(places_ptr + 2 * later) == entry) & (tl.load(slot_ptr + later) == slot)).to(tl.int32)
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = p < tl.where((slot >= 0) & (takers == 0), pixels, 0)
    to = arena_ptr + slot.to(tl.int64) * size + offset + 3 * p
    at = images_ptr + m.to(tl.int64) * stride_n + p // width * stride_h + p % width * stride_w
    for channel in tl.static_range(3):
        value = tl.load(at + channel * stride_c, mask=mask, other=0.0).to(tl.float32)
        value = tl.minimum(tl.maximum(value, 0.0), 1.0) * 255.0
        # To the nearest, ties to even: adding and taking away 2^23 leaves no bits behind the point. A fused
        # product and sum would round once, and now and then to another byte: hence enable_fp_fusion=False.
        tl.store(to + channel, (value + 8388608.0 - 8388608.0).to(tl.uint8), mask=mask)
