"""What tests of sweeps play with: three rainy images, and a derainer that darkens them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from rgsud_fast.config import RewardConfig
from rgsud_fast.data import FolderSet

SIZES = [(40, 50), (64, 48), (40, 50)]
CPU = torch.device("cpu")
PAPER = RewardConfig()


class Darken(nn.Module):
    """A derainer whose output is its input times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, image):
        assert not self.training
        return image * self.factor


def rainy_images() -> FolderSet:
    """Three images of noise of `SIZES`."""
    generator = np.random.default_rng(0)
    arrays = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    return FolderSet.from_arrays(["a", "b", "c"], arrays)
