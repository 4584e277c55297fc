"""nafblock of few channels: four kernels forward, and backward few more, with no tensor between them that need not be.

The block's scales never cost a pass: beta, gamma and the attention are folded into the matrices, and their gradients
come out of the matrices' own. Gradients of matrices are summed in float32, by parts, in a fixed order.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from rgsud_fast.ops._naf_weights import NafWeights

from ._launch import accumulator, on_device, warps
from .nafblock_rows import (
    expand_back_kernel,
    fold_kernel,
    norm_expand_kernel,
    products_kernel,
    tail_back_kernel,
    tail_kernel,
)

FORWARD, BACKWARD = 128, 64  # channels at most; of more, the gradients of the matrices fit no registers
_PROGRAMS = 132  # that walk all rows backward, one for each multiprocessor of an H200: they take its registers


def norm_expand(rows: Tensor, w: NafWeights, eps: float) -> Tensor:
    """expand1(norm1(x)), [rows, 2C]."""
    count, channels = rows.shape
    t, block_p = rows.new_empty(count, 2 * channels), _rows(rows)
    with on_device(rows):
        norm_expand_kernel[(triton.cdiv(count, block_p),)](
            rows, w.norm1_weight, w.norm1_bias, _matrix(w.expand1, rows), w.expand1_bias, t, count,
            EPS=eps, BLOCK_P=block_p, **_constants(rows),
        )  # fmt: skip
    return t


def tail(
    rows: Tensor, u: Tensor, partials: Tensor, images: int, w: NafWeights, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The block's output, y and the mean of u, of the sums of u by blocks, [N * blocks, C]."""
    count, channels = rows.shape
    pixels, block_p = count // images, _rows(rows)
    mean, mixer = partials.new_empty(images, channels), rows.new_empty(images, channels, channels)
    y, out, blocks = torch.empty_like(rows), torch.empty_like(rows), triton.cdiv(pixels, block_p)
    constants = _constants(rows)
    with on_device(rows):
        fold_kernel[(images,)](
            partials, w.attention, w.attention_bias, w.beta, w.project1, mean, mixer, len(partials) // images, pixels,
            CHANNELS=channels, BLOCK_B=16, BLOCK_C=constants["BLOCK_C"], num_warps=8,
        )  # fmt: skip
        tail_kernel[(images * blocks,)](
            rows, u, mixer, w.beta, w.project1_bias, w.norm2_weight, w.norm2_bias, _matrix(w.expand2, rows),
            w.expand2_bias, w.gamma, w.project2, w.project2_bias, y, out, pixels, blocks,
            EPS=eps, BLOCK_P=block_p, **constants,
        )  # fmt: skip
    return out, y, mean


def tail_back(g: Tensor, y: Tensor, w: NafWeights, eps: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The gradient at y, and those at the weights of the block's second half."""
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
    product, moments, total, sums = partials.sum(0).split(
        [channels * channels, 2 * channels * channels, channels, 2 * channels]
    )
    product, gamma = product.view(channels, channels), w.gamma.flatten()
    return v_y, _of_norm_and_expand("2", moments, sums, w.norm2_weight, w.norm2_bias, w.expand2) | {
        "project2": gamma[:, None] * product, "project2_bias": gamma * total,
        "gamma": (w.project2.flatten(1) * product).sum(1) + w.project2_bias * total,
    }  # fmt: skip


def products(v_y: Tensor, u: Tensor, images: int, wide: torch.dtype) -> tuple[Tensor, Tensor]:
    """Of every image v_y^T u, [N, C, C]; and the sum of v_y over all, [C]."""
    count, channels = u.shape
    pixels, block_p = count // images, _rows(u)
    parts = max(1, min(2 * _PROGRAMS // images, triton.cdiv(pixels, block_p)))
    partials = u.new_empty(images, parts, (channels + 1) * channels, dtype=wide)
    with on_device(u):
        products_kernel[(images * parts,)](v_y, u, partials, pixels, parts, BLOCK_P=block_p, **_walking(u))
    matrices, totals = partials.sum(1).split([channels * channels, channels], 1)
    return matrices.view(images, channels, channels), totals.sum(0)


def expand_back(v_t: Tensor, rows: Tensor, v_y: Tensor, w: NafWeights, eps: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The gradient at x, and those at norm1 and expand1."""
    count, channels = rows.shape
    block_p, v_x = _rows(rows), torch.empty_like(rows)
    programs = min(_PROGRAMS, triton.cdiv(count, block_p))
    partials = w.beta.new_empty(programs, (2 * channels + 2) * channels)
    with on_device(rows):
        expand_back_kernel[(programs,)](
            v_t, rows, v_y, w.norm1_weight, w.expand1, v_x, partials, count,
            EPS=eps, BLOCK_P=block_p, **_walking(rows),
        )  # fmt: skip
    moments, sums = partials.sum(0).split([2 * channels * channels, 2 * channels])
    return v_x, _of_norm_and_expand("1", moments, sums, w.norm1_weight, w.norm1_bias, w.expand1)


def _of_norm_and_expand(
    which: str, moments: Tensor, sums: Tensor, norm_weight: Tensor, norm_bias: Tensor, expand: Tensor
) -> dict[str, Tensor]:
    """The gradients of a normalisation's scale a and shift b and of expand, W.

    With n the normalised rows and v the gradient at W (a n + b): of M = v^T n, the moments, and s, the sums of v, the
    gradient at W is M a + s b, at a the column sums of W M, and at b W^T s.
    """
    matrix = expand.flatten(1)
    moments = moments.view_as(matrix)
    return {
        f"norm{which}_weight": (matrix * moments).sum(0), f"norm{which}_bias": sums @ matrix,
        f"expand{which}": torch.addcmul(torch.outer(sums, norm_bias), moments, norm_weight),
        f"expand{which}_bias": sums,
    }  # fmt: skip


def _rows(rows: Tensor) -> int:
    """Rows of a program: without Hopper's products, which take their factors from shared memory, more would spill."""
    return 64 if warps(rows) == 4 else 32


def _constants(rows: Tensor) -> dict[str, object]:
    channels = rows.shape[1]
    return {
        "CHANNELS": channels, "ACC": accumulator(rows), "WIDEN": not rows.is_cuda,
        "BLOCK_C": max(16, triton.next_power_of_2(channels)), "num_warps": 4 if channels <= 32 else 8,
    }  # fmt: skip


def _walking(rows: Tensor) -> dict[str, object]:
    return _constants(rows) | {"num_warps": 8, "num_stages": 2 if warps(rows) == 4 else 1}


def _matrix(weight: Tensor, rows: Tensor) -> Tensor:
    """A matrix as the kernels take it: large ones are read often, and rounded before."""
    return weight.to(rows.dtype) if weight.shape[1] > 64 else weight
