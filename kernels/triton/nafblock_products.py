"""The gradients at the three large matrices of a wide nafblock, before they are summed: one launch for all.

Compiled for sm_90 and run by the interpreter; not yet measured on a GPU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._launch import on_device, shared_memory, warps

_PROGRAMS = 1024  # about how many there are, where the parts' sums allow it
_PARTIALS = 16 << 20  # bytes of the parts' sums at most
Pair = tuple[Tensor, Tensor]  # a, [rows, C or 2C], and b, [rows, C]


def products(first: Pair, second: Pair, third: Pair, wide: torch.dtype) -> list[Tensor]:
    """a^T b of three pairs of half precision, of which the first's a has C channels, the others' 2C.

    Returns:
        Sums by parts of the rows, [parts, C or 2C, C] of dtype `wide`. The parts do not touch.
    """
    (a0, b0), (a1, b1), (a2, b2) = first, second, third
    count, channels = b0.shape
    block_p, block_k, block_d = 64, 128, max(16, min(64, triton.next_power_of_2(channels)))
    single, double, across = (triton.cdiv(size, block) for size, block in (
        (channels, block_k), (2 * channels, block_k), (channels, block_d)))  # fmt: skip
    tiles = single + 2 * double
    allowed = min(_PARTIALS, 2 * a0.nbytes)  # the sums are written and read: half of what the pairs cost
    most = max(1, min(_PROGRAMS // (tiles * across), allowed // (5 * channels * channels * wide.itemsize)))
    part = triton.cdiv(triton.cdiv(count, most), block_p) * block_p
    partials = b0.new_empty(triton.cdiv(count, part), 5 * channels, channels, dtype=wide)
    stages = shared_memory(b0) // (block_p * (block_k + block_d) * b0.element_size())
    with on_device(b0):
        matrices_kernel[(len(partials), tiles, across)](
            a0, b0, a1, b1, a2, b2, partials, count, part, CHANNELS=channels, WIDEN=not b0.is_cuda,
            BLOCK_P=block_p, BLOCK_K=block_k, BLOCK_D=block_d, num_warps=warps(b0), num_stages=max(1, min(4, stages)),
        )  # fmt: skip
    return list(partials.split([channels, 2 * channels, 2 * channels], 1))


@triton.jit(do_not_specialize=["rows", "part"])
def matrices_kernel(
    a0_ptr,  # [rows, C]
    b0_ptr,  # [rows, C]
    a1_ptr,  # [rows, 2C]
    b1_ptr,  # [rows, C]
    a2_ptr,  # [rows, 2C]
    b2_ptr,  # [rows, C]
    partials_ptr,  # [parts, 5C, C]
    rows,
    part,  # rows of a part, a multiple of BLOCK_P
    CHANNELS: tl.constexpr,
    WIDEN: tl.constexpr,  # the interpreter cannot multiply bfloat16
    BLOCK_P: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    SINGLE: tl.constexpr = (CHANNELS + BLOCK_K - 1) // BLOCK_K
    DOUBLE: tl.constexpr = (2 * CHANNELS + BLOCK_K - 1) // BLOCK_K
    tile, width = tl.program_id(1), tl.full((), CHANNELS, tl.int32)
    a_ptr, b_ptr, to_ptr = a0_ptr, b0_ptr, partials_ptr
    if tile >= SINGLE:  # one loop for all three, which has the shared memory of one
        a_ptr, b_ptr, width, to_ptr = a1_ptr, b1_ptr, 2 * width, to_ptr + CHANNELS * CHANNELS
        tile -= SINGLE
        if tile >= DOUBLE:
            a_ptr, b_ptr, to_ptr = a2_ptr, b2_ptr, to_ptr + 2 * CHANNELS * CHANNELS
            tile -= DOUBLE
    acc_type: tl.constexpr = partials_ptr.dtype.element_ty
    row, k = tl.arange(0, BLOCK_P), tile * BLOCK_K + tl.arange(0, BLOCK_K)
    d = tl.program_id(2) * BLOCK_D + tl.arange(0, BLOCK_D)
    start = tl.program_id(0) * part
    a_ptr += start.to(tl.int64) * width
    b_ptr += start.to(tl.int64) * CHANNELS
    acc = tl.zeros((BLOCK_K, BLOCK_D), dtype=acc_type)
    for begin in range(0, part, BLOCK_P):
        here = (row < rows - start - begin)[:, None]
        a_at, b_at = begin * width + row[:, None] * width + k[None, :], (begin + row[:, None]) * CHANNELS + d[None, :]
        if CHANNELS % BLOCK_K == 0:
            a, b = tl.load(a_ptr + a_at, mask=here, other=0.0), tl.load(b_ptr + b_at, mask=here, other=0.0)
        else:
            a = tl.load(a_ptr + a_at, mask=here & (k < width)[None, :], other=0.0)
            b = tl.load(b_ptr + b_at, mask=here & (d < CHANNELS)[None, :], other=0.0)
        if WIDEN:
            a, b = a.to(acc_type), b.to(acc_type)
        acc = tl.dot(tl.trans(a), b, acc, input_precision="ieee", out_dtype=acc_type)
    at = tl.program_id(0).to(tl.int64) * (5 * CHANNELS * CHANNELS) + k[:, None] * CHANNELS + d[None, :]
    tl.store(to_ptr + at, acc, mask=(k < width)[:, None] & (d < CHANNELS)[None, :])
