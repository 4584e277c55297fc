"""Weights drawn to others by a share of the way: on the GPU all of them in one launch."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from ._backends import active_backend


class Averaging:
    """Draws averages to present values, in place; the tensors may change from call to call, and seldom do."""

    def __init__(self) -> None:
        self._addresses: list[int] = []
        self._kernel: Any = None

    @torch.no_grad()
    def __call__(self, averages: list[Tensor], present: list[Tensor], share: Tensor) -> None:
        """average += share * (present - average), pair by pair; share is a scalar tensor."""
        if not _in_one_launch(averages, present):
            gaps = torch._foreach_sub(present, averages)
            torch._foreach_mul_(gaps, share)
            torch._foreach_add_(averages, gaps)
            return
        addresses = [tensor.data_ptr() for tensor in (*averages, *present)]
        if addresses != self._addresses:
            kernel = importlib.import_module("rgsud_fast.kernels.triton.moving_average")
            self._addresses, self._kernel = addresses, kernel.Averaging(averages, present)
        self._kernel(share)


def _in_one_launch(averages: list[Tensor], present: list[Tensor]) -> bool:
    if not averages or not averages[0].is_cuda or active_backend("nafblock", "cuda") != "triton":
        return False
    aligned = all(tensor.dtype == torch.float32 and tensor.data_ptr() % 16 == 0 for tensor in (*averages, *present))
    return aligned and all(one.stride() == other.stride() for one, other in zip(averages, present, strict=True))
