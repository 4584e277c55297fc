"""Images like photographs, for scores that ask for their statistics."""

from __future__ import annotations

import torch
from torch import Tensor


def photographs(count: int, height: int, width: int, device: str = "cpu") -> Tensor:
    """Noise at several scales, in whole grey levels: enough like photographs to have their statistics."""
    images = torch.full((count, 3, height, width), 0.5)
    for scale in (1, 4, 16, 48):
        coarse = torch.randn(count, 3, height // scale + 1, width // scale + 1) * 0.02 * scale**0.5
        images += coarse.repeat_interleave(scale, 2).repeat_interleave(scale, 3)[:, :, :height, :width]
    return (images.clamp(0, 1) * 255).round().to(device) / 255
