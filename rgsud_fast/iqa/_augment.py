"""Crops for the domain classifier, and the changes that hide from it everything but the rain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def crops(images: Sequence[np.ndarray], count: int, side: int, generator: Generator) -> Tensor:
    """Draw square windows, each from a random image, flipped left to right half of the time.

    Args:
        images: uint8 [H, W, 3] each; smaller ones are reflected to `side`.
        count: how many.
        side: in pixels.
        generator: the only source of randomness, on the CPU.

    Returns:
        [count, 3, side, side] float32 in [0, 1].
    """
    chosen = torch.randint(len(images), (count,), generator=generator).tolist()
    where = torch.rand(count, 3, generator=generator).tolist()
    windows = []
    for index, (down, right, flip) in zip(chosen, where, strict=True):
        image = np.asarray(images[index])
        height, width = image.shape[:2]
        top, left = int(down * max(height - side + 1, 1)), int(right * max(width - side + 1, 1))
        window = image[top : top + side, left : left + side]
        missing = [(0, side - window.shape[0]), (0, side - window.shape[1]), (0, 0)]
        if missing[0][1] or missing[1][1]:
            window = np.pad(window, missing, mode="symmetric")
        windows.append(window[:, ::-1] if flip < 0.5 else window)
    batch = torch.from_numpy(np.stack(windows))
    return batch.permute(0, 3, 1, 2).float() / 255


def vary(images: Tensor, generator: Generator) -> Tensor:
    """Change tone, colour, sharpness and noise at random, alike for both domains.

    Args:
        images: [N, 3, H, W] in [0, 1].
        generator: the only source of randomness, on the CPU.

    Returns:
        The changed images, same shape and range.
    """

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(images), 1, 1, 1, generator=generator)

    grey = images.mean(1, keepdim=True)
    images = (grey + draw(0.3, 1.5) * (images - grey)).clamp(0, 1)  # saturation
    images = images.clamp_min(1e-4) ** torch.exp(draw(-0.4, 0.4))  # gamma
    images = draw(0.6, 1.25) * images + draw(-0.1, 0.1)  # contrast, brightness
    soft = _soften(images)
    images = images + draw(-0.6, 0.8) * (soft - images)  # sharpened to softened
    noise = torch.randn(images.shape, generator=generator)
    images = images + draw(-0.01, 0.02).clamp_min(0) * noise
    return images.clamp(0, 1)


def mix(images: Tensor, target: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Blend a random half of the images with random others, and their targets alike (mixup).

    Args:
        images: [N, 3, H, W].
        target: P(clean) of each, [N].
        generator: the only source of randomness, on the CPU.

    Returns:
        The images and targets after blending.
    """
    other = torch.randperm(len(images), generator=generator)
    blended = torch.rand(len(images), generator=generator) < 0.5
    share = torch.where(blended, torch.rand(len(images), generator=generator), torch.zeros(()))  # [N]
    target = torch.lerp(target, target[other], share)
    return torch.lerp(images, images[other], share[:, None, None, None]), target


def _soften(images: Tensor) -> Tensor:
    kernel = torch.tensor([0.25, 0.5, 0.25], dtype=images.dtype)
    rows = F.pad(images, (1, 1, 1, 1), mode="replicate")
    kernel2 = (kernel[:, None] * kernel)[None, None].expand(images.shape[1], 1, 3, 3)
    return F.conv2d(rows, kernel2, groups=images.shape[1])
