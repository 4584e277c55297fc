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
    """Change colour, tone, sharpness and noise a little at random, alike for both domains.

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
    images = images + draw(-0.5, 0.3) * (soften(images) - images)  # sharpened to softened
    images = images + draw(-0.008, 0.008).clamp_min(0) * torch.randn(images.shape, generator=generator)
    return images.clamp(0, 1)


def spoil(images: Tensor, generator: Generator) -> Tensor:
    """Do to clean images what a derainer may do to please a score: smooth them, add noise, or both.

    Args:
        images: [N, 3, H, W] in [0, 1].
        generator: the only source of randomness, on the CPU.

    Returns:
        The spoiled images, same shape and range: sigma of the blur 0.7 to 1.7 pixels, of the noise 0.01 to 0.05.
    """
    kind = torch.randint(3, (len(images), 1, 1, 1), generator=generator)  # blur, noise, both
    times = torch.randint(1, 7, (len(images), 1, 1, 1), generator=generator)
    soft = images
    for done in range(6):
        soft = torch.where(done < times, soften(soft), soft)  # each adds a variance of 1/2 pixel
    images = torch.where(kind != 1, soft, images)
    strength = 0.01 + 0.04 * torch.rand(len(images), 1, 1, 1, generator=generator)
    noise = strength * torch.randn(images.shape, generator=generator)
    return torch.where(kind != 0, images + noise, images).clamp(0, 1)


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


def soften(images: Tensor) -> Tensor:
    """The smallest blur there is: [1 2 1] / 4 along both sides, borders replicated; [N, C, H, W]."""
    x = F.pad(images, (1, 1, 1, 1), mode="replicate")
    x = (x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]) / 4
    return (x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]) / 4
