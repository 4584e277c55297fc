"""Resizing along one side as weighted sums: which pixels make each new one, and with what weight."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..system.device import to_device


class Taps(NamedTuple):
    """Each pixel of a resized line as a weighted sum of pixels of the line."""

    place: Tensor  # int64 [out, taps]
    weight: Tensor  # float64 [out, taps]

    def matrix(self, size: int) -> Tensor:
        """The same as a matrix [out, size]."""
        return self.weight.new_zeros(len(self.place), size).scatter_add_(1, self.place, self.weight)

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Addresses and taps per pixel, as `_C` takes them."""
        return self.place.data_ptr(), self.weight.data_ptr(), self.place.shape[1]


@lru_cache(maxsize=256)
def matlab_half(size: int, device: torch.device) -> Taps:
    """MATLAB's imresize(x, 0.5): bicubic, a = -0.5, stretched to 8 taps, borders mirrored."""
    tap, weight = _bicubic((size + 1) // 2, step=2.0, stretch=2.0, a=-0.5)
    mirrored = tap.remainder(2 * size)
    return _taps(torch.where(mirrored < size, mirrored, 2 * size - 1 - mirrored), weight, device)


@lru_cache(maxsize=256)
def opencv_half(size: int, device: torch.device) -> Taps:
    """OpenCV's resize to size // 2, INTER_CUBIC: a = -0.75, 4 taps whatever the size, borders replicated."""
    count = size // 2
    tap, weight = _bicubic(count, step=size / count, stretch=1.0, a=-0.75)
    return _taps(tap.clamp(0, size - 1), weight, device)


@lru_cache(maxsize=256)
def antialias_taps(size: int, out: int, first: int, count: int, device: torch.device) -> Taps:
    """Pixels first ... first + count of a side resized to `out`, as PyTorch's and Pillow's antialiased bicubic do.

    a = -0.5, stretched by size / out where that is more than 1; beyond the border is nothing.
    """
    tap, weight = _bicubic(count, step=size / out, stretch=max(size / out, 1.0), a=-0.5, first=first)
    inside = (tap >= 0) & (tap < size)
    weight = torch.where(inside, weight, 0.0)
    weight = weight / weight.sum(1, keepdim=True)
    return _taps(tap.clamp(0, size - 1), weight, device)


def _bicubic(count: int, step: float, stretch: float, a: float, first: int = 0) -> tuple[Tensor, Tensor]:
    """Places before any border, and weights, [count, taps] each."""
    centre = step * torch.arange(first, first + count, dtype=torch.float64)[:, None] + (step - 1) / 2
    near = int(-(-2 * stretch // 1))  # taps on either side
    tap = centre.floor().long() - near + 1 + torch.arange(2 * near)
    away = ((tap - centre) / stretch).abs()
    inner = ((a + 2) * away - (a + 3)) * away**2 + 1
    outer = ((a * away - 5 * a) * away + 8 * a) * away - 4 * a
    weight = torch.where(away <= 1, inner, torch.where(away <= 2, outer, 0.0))
    return tap, weight / weight.sum(1, keepdim=True)


def _taps(place: Tensor, weight: Tensor, device: torch.device) -> Taps:
    return Taps(*(to_device(part.contiguous(), device) for part in (place, weight)))
