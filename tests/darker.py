"""A derainer whose result is known, and a folder of images for it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from rgsud_fast.data import write_image


class Darker(nn.Module):
    """It halves the image."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))

    def forward(self, image):
        assert not self.training
        return image * self.factor


def write_folder(root: Path) -> Path:
    """Write three images, one nested, two of which share a stem."""
    generator = torch.Generator().manual_seed(5)
    for name, size in (("a.png", (40, 33)), ("sub/b.png", (35, 50)), ("a.bmp", (32, 32))):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / name, torch.rand(3, *size, generator=generator))
    return root
