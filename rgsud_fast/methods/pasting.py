"""Pasted pairs: the rain that a reward took from its photograph, laid on a clean image; a generator that only adds."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..ops import derain_loss, ssim
from ..ops.derain_loss import FLOOR, psnr_loss, squared_error


class Pasted(NamedTuple):
    """Pairs to learn from: clean images and what `paste` made of them, [M, 3, H, W] in [0, 1] each."""

    rainy: Tensor
    clean: Tensor


def paste(clean: Tensor, rainy: Tensor, reward: Tensor, gain: Tensor | float = 1.0) -> Tensor:
    """Lay rain on clean images: min(clean + gain * max(mean over channels of (rainy - reward), 0), 1).

    Args:
        clean: images of any scene, [M, 3, H, W] in [0, 1].
        rainy: rainy images of other scenes, same shape.
        reward: the same windows of these without their rain; equal to `rainy` where there is none, which lays nothing.
        gain: how strong the rain becomes, [M, 1, 1, 1] or a number.

    Returns:
        [M, 3, H, W] in [0, 1].
    """
    return (clean + gain * rain_light(rainy, reward)).clamp(max=1)


def rain_light(rainy: Tensor, derained: Tensor) -> Tensor:
    """The grey, non-negative part of what is taken away, [N, 3, H, W] each -> [N, 1, H, W]."""
    return (rainy - derained).mean(dim=1, keepdim=True).clamp(min=0)


def derain(derainer: nn.Module, *images: Tensor) -> tuple[Tensor, ...]:
    """Derain batches of one size in one call."""
    return derainer(torch.cat(images)).split([len(batch) for batch in images])


def pasted_terms(derained: Tensor, pasted: Pasted, floor: float = FLOOR) -> dict[str, Tensor]:
    """L_PSNR + L_SSIM of (B_u, Der(B_u + g R)), as of any pseudo pair, by name; the first with (MSE + floor)."""
    if floor == FLOOR:
        psnr, structure = derain_loss(derained, pasted.clean)
    else:
        psnr = psnr_loss(squared_error(derained, pasted.clean), floor).mean()
        structure = 1 - ssim(derained, pasted.clean)
    return {"pasted_psnr": psnr, "pasted_ssim": structure}
