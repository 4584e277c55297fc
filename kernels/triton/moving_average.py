"""Triton kernel of a moving average: all weights of a network in one launch.

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


class Averaging:
    """Draws averages to present values, pair by pair, in place.

    Args:
        averages: float32, dense.
        present: of the same shapes and strides.
    """

    def __init__(self, averages: Sequence[Tensor], present: Sequence[Tensor]) -> None:
        rows = [
            [average.data_ptr(), now.data_ptr(), first, average.numel()]
            for average, now in zip(averages, present, strict=True)
            for first in range(0, average.numel(), _BLOCK)
        ]
        self._table: Tensor = torch.tensor(rows, dtype=torch.int64).to(averages[0].device)
        self._table.sources = [*averages, *present]  # type: ignore[attr-defined]  # whose addresses they are

    def __call__(self, share: Tensor) -> None:
        """average += share * (present - average), of a share on the device."""
        with on_device(self._table):
            average_kernel[(len(self._table),)](self._table, share, BLOCK=_BLOCK, num_warps=8)


@triton.jit
def average_kernel(
    table_ptr,  # [programs, 4] int64: addresses of the average and the present values, first, end
    share_ptr,  # scalar
    BLOCK: tl.constexpr,
):
    row = table_ptr + tl.program_id(0) * 4
    average_ptr = tl.multiple_of(tl.load(row).to(tl.pointer_type(tl.float32)), 16)
    present_ptr = tl.multiple_of(tl.load(row + 1).to(tl.pointer_type(tl.float32)), 16)
    i = tl.multiple_of(tl.load(row + 2).to(tl.int32), BLOCK) + tl.arange(0, BLOCK)
    inside = i < tl.load(row + 3).to(tl.int32)
    average = tl.load(average_ptr + i, mask=inside, other=0.0)
    gap = tl.load(present_ptr + i, mask=inside, other=0.0) - average
    tl.store(average_ptr + i, average + tl.load(share_ptr) * gap, mask=inside)
