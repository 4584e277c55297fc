"""Triton kernel of a training step's weights: all of them rounded to half precision in one launch.

Compiled for sm_90 and run by the interpreter; not yet measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._launch import on_device

_BLOCK = 4096  # numbers of a program
_ALIGNED = 64  # numbers: every rounded weight begins at a multiple of that


class Rounding:
    """Weights in float32, and room for them in half precision. Called, it rounds them.

    Args:
        weights: each with what its rows are multiplied by, one number each, or None. Contiguous, or channels last.
        dtype: to which.
    """

    def __init__(self, weights: Sequence[tuple[Tensor, Tensor | None]], dtype: torch.dtype) -> None:
        rows, end, places = [], 0, []
        for weight, factor in weights:
            places.append(end)
            for first in range(0, weight.numel(), _BLOCK):
                scale = 0 if factor is None else factor.data_ptr()
                rows.append([weight.data_ptr(), scale, weight.numel() // len(weight), end, first, weight.numel()])
            end += triton.cdiv(weight.numel(), _ALIGNED) * _ALIGNED
        device = weights[0][0].device
        self._flat = torch.empty(end, dtype=dtype, device=device)
        self._table: Tensor = torch.tensor(rows, dtype=torch.int64).to(device)
        self._table.sources = [tensor for pair in weights for tensor in pair if tensor is not None]  # type: ignore[attr-defined]
        self.rounded = [
            self._flat[place : place + weight.numel()].as_strided(weight.shape, weight.stride(), place)
            for place, (weight, _) in zip(places, weights, strict=True)
        ]

    def __call__(self) -> None:
        with on_device(self._flat):
            round_kernel[(len(self._table),)](self._table, self._flat, BLOCK=_BLOCK, num_warps=8)


@triton.jit
def round_kernel(
    table_ptr,  # [programs, 6] int64: addresses of weight and factor, numbers in a row, place of the result, first, end
    out_ptr,
    BLOCK: tl.constexpr,
):
    row = table_ptr + tl.program_id(0) * 6
    weight_ptr = tl.multiple_of(tl.load(row).to(tl.pointer_type(tl.float32)), 16)
    factor = tl.load(row + 1)
    length = tl.load(row + 2).to(tl.int32)
    place = tl.multiple_of(tl.load(row + 3), 64)
    first = tl.multiple_of(tl.load(row + 4).to(tl.int32), BLOCK)
    i = first + tl.arange(0, BLOCK)
    inside = i < tl.load(row + 5).to(tl.int32)
    value = tl.load(weight_ptr + i, mask=inside, other=0.0)
    if factor != 0:
        value *= tl.load(factor.to(tl.pointer_type(tl.float32)) + i // length, mask=inside, other=0.0)
    tl.store(out_ptr + place + i, value.to(out_ptr.dtype.element_ty), mask=inside)
