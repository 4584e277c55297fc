"""nafblock of few channels: four kernels forward, and backward few more, with no tensor between them that need not be.

The block's scales never cost a pass: beta, gamma and the attention are folded into the matrices, and their gradients
come out of the matrices' own. Gradients of matrices are summed in float32, by parts, in a fixed order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from rgsud_fast.ops._naf_weights import NafWeights

from ._launch import accumulator, on_device, warps
from .nafblock_rows import (
    expand_back_kernel,
    norm_expand_kernel,
    products_kernel,
    tail_back_kernel,
    tail_kernel,
)
from .nafblock_wide import Parts

FORWARD, BACKWARD = 128, 64  # channels at most; of more, the gradients of the matrices fit no registers
_PROGRAMS = 132  # that walk all rows backward, one for each multiprocessor of an H200: they take its registers


def norm_expand(rows: Tensor, w: NafWeights, eps: float, low: Sequence[Tensor]) -> Tensor:
    """expand1(norm1(x)), [rows, 2C]; `low` are `nafblock_wide.Low`'s matrices, or none."""
    count, channels = rows.shape
    t, block_p, constants = rows.new_empty(count, 2 * channels), _rows(rows), _constants(rows)
    if channels <= 64:
        block_p, constants["num_warps"] = 8192 // constants["BLOCK_C"], 4
    with on_device(rows):
        norm_expand_kernel[(triton.cdiv(count, block_p),)](
            rows, w.norm1_weight, w.norm1_bias, low[0] if low else w.expand1, w.expand1_bias, t, count,
            EPS=eps, BLOCK_P=block_p, **constants,
        )  # fmt: skip
    return t


def tail(
    rows: Tensor, u: Tensor, mixer: Tensor, w: NafWeights, eps: float, low: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """The block's output and y."""
    pixels, block_p, constants = len(rows) // len(mixer), _rows(rows), _constants(rows)
    if rows.shape[1] <= 32:
        block_p, constants["num_warps"] = 128, 4
    elif rows.shape[1] <= 64 and block_p == 32:
        constants["num_warps"] = 4
    y, out, blocks = torch.empty_like(rows), torch.empty_like(rows), triton.cdiv(pixels, block_p)
    with on_device(rows):
        tail_kernel[(len(mixer) * blocks,)](
            rows, u, mixer, w.beta, w.project1_bias, w.norm2_weight, w.norm2_bias, low[2] if low else w.expand2,
            w.expand2_bias, w.gamma, w.project2, w.project2_bias, y, out, pixels, blocks,
            EPS=eps, BLOCK_P=block_p, **constants,
        )  # fmt: skip
    return out, y


def tail_back(g: Tensor, y: Tensor, w: NafWeights, eps: float) -> tuple[Tensor, Parts, list[Tensor]]:
    """The gradient at y, and the sums of the block's second half, and its matrices', in one part."""
    count, channels = y.shape
    block_p, v_y, constants = _rows(y), torch.empty_like(y), _walking(y)
    if channels > 32:
        block_p = 32  # more would spill
    elif block_p == 32:
        block_p, constants["num_warps"] = 16, 2
    programs = min(_PROGRAMS * (64 // block_p), triton.cdiv(count, block_p))
    partials = w.beta.new_empty(programs, (3 * channels + 3) * channels)
    with on_device(y):
        tail_back_kernel[(programs,)](
            g, y, w.norm2_weight, w.norm2_bias, w.expand2, w.expand2_bias, w.gamma, w.project2, v_y, partials, count,
            EPS=eps, BLOCK_P=block_p, **constants,
        )  # fmt: skip
    product, moments, sums = partials.sum(0)[None].split(
        [channels * channels, 2 * channels * channels, 3 * channels], 1
    )
    return v_y, Parts(sums, sums[None]), [product, moments]


def products(v_y: Tensor, u: Tensor, images: int, wide: torch.dtype) -> Tensor:
    """Of every image v_y^T u and the sums of v_y, [N, (C + 1) C]."""
    count, channels = u.shape
    pixels, block_p, constants = count // images, _rows(u), _walking(u)
    if channels <= 64:
        block_p, constants["num_warps"] = 8192 // constants["BLOCK_C"], 4
    parts = max(1, min(2 * _PROGRAMS // images, triton.cdiv(pixels, block_p)))
    partials = u.new_empty(images, parts, (channels + 1) * channels, dtype=wide)
    with on_device(u):
        products_kernel[(images * parts,)](v_y, u, partials, pixels, parts, BLOCK_P=block_p, **constants)
    return partials.sum(1)


def expand_back(v_t: Tensor, rows: Tensor, v_y: Tensor, w: NafWeights, eps: float) -> tuple[Tensor, Parts, Tensor]:
    """The gradient at x, and the sums of v_t, and the matrix', in one part."""
    count, channels = rows.shape
    block_p, v_x, constants = _rows(rows), torch.empty_like(rows), _walking(rows)
    if channels > 32 and block_p == 32:
        constants["num_warps"] = 4
    programs = min(_PROGRAMS, triton.cdiv(count, block_p))
    partials = w.beta.new_empty(programs, (2 * channels + 2) * channels)
    with on_device(rows):
        expand_back_kernel[(programs,)](
            v_t, rows, v_y, w.norm1_weight, w.expand1, v_x, partials, count,
            EPS=eps, BLOCK_P=block_p, **constants,
        )  # fmt: skip
    moments, sums = partials.sum(0)[None].split([2 * channels * channels, 2 * channels], 1)
    return v_x, Parts(sums, sums[None]), moments


def _rows(rows: Tensor) -> int:
    """Rows of a program: without Hopper's products, which take their factors from shared memory, more would spill."""
    return 64 if warps(rows) == 4 else 32


def _constants(rows: Tensor) -> dict[str, Any]:
    channels = rows.shape[1]
    return {
        "CHANNELS": channels, "ACC": accumulator(rows), "WIDEN": not rows.is_cuda,
        "BLOCK_C": max(16, triton.next_power_of_2(channels)), "num_warps": 4 if channels <= 32 else 8,
    }  # fmt: skip


def _walking(rows: Tensor) -> dict[str, Any]:
    return _constants(rows) | {"num_warps": 8, "num_stages": 2 if warps(rows) == 4 else 1}
