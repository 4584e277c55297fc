"""The Gaussian window of the reference implementations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian(taps: int, sigma: float, like: Tensor) -> Tensor:
    """Normalised Gaussian of an odd number of taps and standard deviation sigma in pixels, [taps]."""
    away = torch.arange(taps, dtype=torch.float64) - taps // 2
    weights = torch.exp(-away.square() / (2 * sigma**2))
    return (weights / weights.sum()).to(like)


def filter_separably(image: Tensor, weights: Tensor) -> Tensor:
    """Filter every channel along H, then W, keeping valid pixels: [N, C, H, W] -> [N, C, H-taps+1, W-taps+1]."""
    channels = image.shape[1]
    kernel = weights.expand(channels, 1, -1)
    image = F.conv2d(image, kernel.unsqueeze(3), groups=channels)
    return F.conv2d(image, kernel.unsqueeze(2), groups=channels)
