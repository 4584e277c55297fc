"""Deep supervision: a derainer that makes the image at coarser scales too learns from each (`loss.deep`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import LossConfig
from ..errors import UserError
from ..networks.derainers.nerd_rain import NeRDRain
from .pasting import Pasted, derain, pasted_terms

COARSEST = 4  # pixels of the image to one of the coarsest scale
SMALLEST = 11 * COARSEST  # crops at whose coarsest scale SSIM has a window


def check_deep(derainer: nn.Module, weights: LossConfig, crop: int) -> None:
    """Refuse `loss.deep` for what has one scale, and for crops that are too small.

    Raises:
        UserError: so it is.
    """
    if weights.deep and not isinstance(derainer, NeRDRain):
        raise UserError(f"loss.deep: {type(derainer).__name__} has one scale; give network.derainer nerd_rain, or 0")
    if weights.deep and crop < SMALLEST:
        raise UserError(f"loss.deep needs a crop of {SMALLEST} pixels at least, got {crop}")


def derain_scales(
    derainer: nn.Module, weights: LossConfig, *images: Tensor
) -> tuple[Sequence[Tensor], list[tuple[Tensor, ...]]]:
    """Derain batches of one size in one call; with `loss.deep` also each at half and at a quarter of the size."""
    if not weights.deep:
        return derain(derainer, *images), []
    scales = [scale.split([len(batch) for batch in images]) for scale in derainer(torch.cat(images), True)]
    return scales[0], list(zip(*scales[1:], strict=True))


def deep_terms(coarse: Sequence[Sequence[Tensor]], cleans: Mapping[int, tuple[Tensor, float]]) -> dict[str, Tensor]:
    """L_PSNR + L_SSIM of coarser scales, summed, against means of pixels of the clean image; {} without any.

    Args:
        coarse: of each batch its scales, [N, 3, H / 2, W / 2] and [N, 3, H / 4, W / 4], rounded up.
        cleans: by place of a batch the truth, [N, 3, H, W], and the floor of L_PSNR.
    """
    terms: dict[str, Tensor] = {}
    for place, (clean, floor) in cleans.items() if coarse else ():
        for level, scale in enumerate(coarse[place], 1):
            target = F.avg_pool2d(clean, 1 << level)
            made = scale[..., : target.shape[-2], : target.shape[-1]]
            for name, term in pasted_terms(made, Pasted(made, target), floor).items():
                name = name.replace("pasted", "deep")
                terms[name] = terms[name] + term if name in terms else term
    return terms
