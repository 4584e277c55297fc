"""clip_preprocess by csrc/cpu/clip_preprocess.h."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._taps import Taps
from . import _C, address, dtype_name, threads


def forward(
    images: Tensor, side: int, down: Taps, across: Taps, mean: Sequence[float], deviation: Sequence[float]
) -> Tensor:
    """[N, 3, H, W] -> [N, 3, side, side]; mean and deviation are of the three channels."""
    out = torch.empty(len(images), 3, side, side, dtype=images.dtype)
    sizes, taps = [len(images), *images.shape[2:], side], [*down.numbers, *across.numbers]
    arguments = dtype_name(images), address(images), address(out), sizes, taps
    _C.clip_preprocess_cpu(*arguments, [*mean, *deviation], threads())
    return out
