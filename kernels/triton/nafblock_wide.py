"""nafblock of many channels: the library's matrix products, and between two of them one kernel.

Gradients of matrices are summed in float32, by parts, in a fixed order. Nothing is computed twice that a block of so
few pixels can keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from rgsud_fast.ops._convolutions import HALVES
from rgsud_fast.ops._naf_weights import NafWeights
from rgsud_fast.ops._step_weights import rounded

from ._launch import on_device
from .nafblock_kernels import multiply_back_kernel, norm_back_kernel, norm_kernel, residual_norm_kernel
from .nafblock_products import Pair, products

_ELEMENTS = 4096  # per program: 8 pixels of 512 channels


class Low(NamedTuple):
    """Matrices and biases in the dtype of the features."""

    expand1: Tensor  # [2C, C]
    expand1_bias: Tensor  # [2C]
    expand2: Tensor  # [2C, C]
    expand2_bias: Tensor  # [2C]
    project2: Tensor  # [C, C], times gamma


class Parts(NamedTuple):
    """Sums over pixels, by parts, of what one half of the block gives backward."""

    sums: Tensor  # [parts, 3C]: of v_out and of the gradient at expand2's output; [parts, 2C] of that at expand1's
    norm: Tensor  # [3, parts, C]: the gradients at the normalisation's scale and shift; sums of the one at its input


def lower(w: NafWeights, dtype: torch.dtype) -> Low:
    """The matrices as the library multiplies them."""
    expand1, expand1_bias, expand2, expand2_bias = (
        rounded(weight, dtype) for weight in (w.expand1, w.expand1_bias, w.expand2, w.expand2_bias)
    )
    project2 = rounded(w.project2, dtype, w.gamma)
    return Low(expand1.flatten(1), expand1_bias, expand2.flatten(1), expand2_bias, project2.flatten(1))


def norm_expand(rows: Tensor, w: NafWeights, eps: float, low: Low) -> tuple[Tensor, Tensor]:
    """expand1(norm1(x)), [rows, 2C], and norm1(x)."""
    normed = _normalise(rows, w.norm1_weight, w.norm1_bias, eps)
    return torch.addmm(low.expand1_bias, normed, low.expand1.t()), normed


def tail(
    rows: Tensor, u: Tensor, mixer: Tensor, w: NafWeights, eps: float, low: Low
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The block's output, y, norm2(y) and expand2 of it."""
    count, channels = rows.shape
    mixed = torch.bmm(u.view(len(mixer), -1, channels), mixer.transpose(1, 2))
    y, normed, out = (torch.empty_like(rows) for _ in range(3))
    block_p, block_c = _blocks(channels)
    with on_device(rows):
        residual_norm_kernel[(triton.cdiv(count, block_p),)](
            rows, mixed, w.beta, w.project1_bias, w.gamma, w.project2_bias, w.norm2_weight, w.norm2_bias,
            y, normed, out, count, channels, eps, BLOCK_P=block_p, BLOCK_C=block_c,
        )  # fmt: skip
    e = torch.addmm(low.expand2_bias, normed, low.expand2.t())
    return out.addmm_(e[:, :channels] * e[:, channels:], low.project2.t()), y, normed, e


def tail_back(
    g: Tensor, y: Tensor, w: NafWeights, eps: float, low: Low, made: Sequence[Tensor]
) -> tuple[Tensor, Parts, list[Pair]]:
    """The gradient at y, the sums of the block's second half, and the pairs of rows whose products its matrices want.

    `made` are norm2(y) and expand2 of it, if kept.
    """
    normed = made[0] if made else _normalise(y, w.norm2_weight, w.norm2_bias, eps)
    e = made[1] if made else torch.addmm(low.expand2_bias, normed, low.expand2.t())
    v, v_e = g @ low.project2, torch.empty_like(e)
    count, channels = y.shape
    block_p, block_c = _blocks(channels)
    sums = w.beta.new_empty(triton.cdiv(count, block_p), 3 * channels)
    with on_device(y):
        multiply_back_kernel[(len(sums),)](g, v, e, v_e, sums, count, channels, BLOCK_P=block_p, BLOCK_C=block_c)
    v_y, norm = _normalise_back(v_e @ low.expand2, y, w.norm2_weight, g, eps)
    return v_y, Parts(sums, norm), [(g, v), (v_e, normed)]


def expand_back(
    v_t: Tensor, rows: Tensor, v_y: Tensor, w: NafWeights, eps: float, low: Low, made: Sequence[Tensor], sums: Tensor
) -> tuple[Tensor, Parts, Pair]:
    """The gradient at x, the sums of the first half, `sums` being v_t's, and the pair of rows of expand1.

    `made` is norm1(x), if kept.
    """
    normed = made[0] if made else _normalise(rows, w.norm1_weight, w.norm1_bias, eps)
    v_rows, norm = _normalise_back(v_t @ low.expand1, rows, w.norm1_weight, v_y, eps)
    return v_rows, Parts(sums, norm), (v_t, normed)


def matrices(pairs: Sequence[Pair], wide: torch.dtype) -> list[Tensor]:
    """a^T b of the pairs of project2, expand2 and expand1, in the dtype of the weights and by parts of the rows."""
    if pairs[0][0].dtype not in HALVES:
        return [(a.t() @ b).to(wide)[None] for a, b in pairs]
    return products(*pairs, wide)


def _normalise(rows: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    out = torch.empty_like(rows)
    count, channels = rows.shape
    block_p, block_c = _blocks(channels)
    with on_device(rows):
        norm_kernel[(triton.cdiv(count, block_p),)](
            rows, weight, bias, out, count, channels, eps, BLOCK_P=block_p, BLOCK_C=block_c
        )
    return out


def _normalise_back(v_out: Tensor, rows: Tensor, weight: Tensor, v_skip: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The gradient at the rows, v_skip added; and the sums of norm_back_kernel, [3, parts, C]."""
    v_x = torch.empty_like(rows)
    count, channels = rows.shape
    block_p, block_c = _blocks(channels)
    programs = triton.cdiv(count, block_p)
    partials = weight.new_empty(3, programs, channels)
    with on_device(rows):
        norm_back_kernel[(programs,)](
            v_out, rows, weight, v_skip, v_x, partials, count, channels, eps, BLOCK_P=block_p, BLOCK_C=block_c
        )
    return v_x, partials


def _blocks(channels: int) -> tuple[int, int]:
    block_c = triton.next_power_of_2(channels)
    return max(1, _ELEMENTS // block_c), block_c
