"""What a fitted FinPercep-RM can and cannot see: figures on images that it was not fitted to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.image_files import quantise
from .fit import auc
from .generated import Batch, Material, Structure, draw_batch, with_truths_by
from .scorer import FinpercepScorer

SPOILED = 0.15  # of the truth, above which a pixel counts as spoiled
PLAIN = 0.01  # of the pixels: a fifth of samples have fewer, and errors of 0.9 grey levels (median), others of 4.3
SAMPLES = 96
BLOCK = 64  # side of a faulty block, in pixels


class Figures(NamedTuple):
    """On generated samples of photographs that were not fitted to."""

    auc_swapped: float  # of the map against the truth, swapped regions
    auc_whole: float  # the same on whole weak results: far less means that the seams of a swap were learned
    clean_over_swapped: float  # share of samples whose S are in this order, of those that differ as bytes
    clean_over_spoiled: float  # the same of samples with a hundredth or more of their pixels spoiled
    swapped_over_weak: float
    mean_clean: float  # mean of the map; of nearly clean images it should be small
    mean_weak: float


def figures_of(
    scorer: FinpercepScorer,
    material: Material,
    seed: int = 1,
    samples: int = SAMPLES,
    structure: Structure | None = None,
) -> Figures:
    """Measure a scorer in its present stage.

    Args:
        scorer: a fitted one.
        material: photographs that it has not seen.
        seed: of the samples.
        samples: how many.
        structure: second part of the truth, as of the fit.
    """
    batch = with_truths_by(draw_batch(material, seed, 0, samples, scorer.side), structure)
    (clean, of_clean), (swapped, of_swapped), (weak, of_weak) = (
        scores_and_maps(scorer, image, batch) for image in (batch.clean, batch.swapped, batch.weak)
    )
    return Figures(
        auc(of_swapped, batch.swapped_truth > SPOILED),
        auc(of_weak, batch.weak_truth > SPOILED),
        in_order(clean > swapped, batch.clean, batch.swapped),
        in_order(clean > swapped, batch.clean, batch.swapped, (batch.swapped_truth > SPOILED).flatten(1)),
        in_order(swapped > weak, batch.swapped, batch.weak),
        float(of_clean.mean()),
        float(of_weak.mean()),
    )


def in_order(right: Tensor, better: Tensor, worse: Tensor, spoiled: Tensor | None = None) -> float:
    """Share of pairs of images that are in order, among those that differ as files of 8 bits: others have no order.

    Args:
        right: whether the score says so, bool [N].
        better, worse: the images, [N, 3, H, W] in [0, 1].
        spoiled: which pixels of the worse one are, bool [N, pixels]; fewer than `PLAIN` do not count.
    """
    differ = (quantise(better) != quantise(worse)).flatten(1).any(1)
    if spoiled is not None:
        differ &= spoiled.float().mean(1) >= PLAIN
    return float(right[differ.to(right.device)].float().mean())


def scores_and_maps(scorer: FinpercepScorer, images: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """S [N] and maps [N, 1, H, W] of images of a batch, on the CPU; the penalties know nothing of the order asked."""
    device = scorer.reference.device
    scores, spoiled = scorer.parts(images.to(device), batch.rainy.to(device))
    return scores.cpu(), spoiled.cpu()


def blur(block: Tensor, rainy: Tensor) -> Tensor:
    """Softened."""
    return F.avg_pool2d(F.pad(block, (2, 2, 2, 2), mode="replicate"), 5, 1)


def excess(block: Tensor, rainy: Tensor) -> Tensor:
    """Two fifths more taken away than was."""
    return block - 0.4 * (rainy - block)


def grid(block: Tensor, rainy: Tensor) -> Tensor:
    """A grid of 5 % with a period of 4."""
    rows, columns = (torch.arange(side) % 4 < 2 for side in block.shape[2:])
    return block + 0.05 * ((rows[:, None] ^ columns).float() - 0.5).to(block)


def ghost(block: Tensor, rainy: Tensor) -> Tensor:
    """A faint copy of its own edges beside them."""
    return block + 0.3 * (block - blur(block, rainy)).roll((4, 4), (2, 3))


def sharpen(block: Tensor, rainy: Tensor) -> Tensor:
    """Sharpened twice."""
    return block + 1.5 * (block - blur(block, rainy))


def tint(block: Tensor, rainy: Tensor) -> Tensor:
    """A tint of 6 %."""
    return block + block.new_tensor([0.06, 0.0, -0.06])[:, None, None]


Hack: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # from a derained block and its rainy one to a worse one
HACKS: dict[str, Hack] = {hack.__name__: hack for hack in (blur, excess, grid, ghost, sharpen, tint)}


def detection_rate(
    scorer: Callable[[Tensor, Tensor], Tensor],
    derained: list[Tensor],
    rainy: list[Tensor],
    hack: Hack,
    seed: int = 0,
    clean: Sequence[Tensor] | None = None,
) -> float:
    """Share of images whose score falls when a block of 64 x 64 of the derained one is made worse; NaN of none.

    Args:
        scorer: from (image, rainy), [1, 3, H, W] each, to its score, [1].
        derained, rainy: the images.
        hack: what is done to the block.
        seed: of where the block lies.
        clean: the truth of each, where it is known: what does not take an image away from it is left out, as where
            rain is left and more is taken away.
    """
    rng = np.random.default_rng(seed)
    falls = []
    truths: Sequence[Tensor | None] = [None] * len(rainy) if clean is None else clean
    for image, wet, truth in zip(derained, rainy, truths, strict=True):
        side = min(BLOCK, *image.shape[2:])
        top, left = (int(rng.integers(length - side + 1)) for length in image.shape[2:])
        worse = image.clone()
        block = (..., slice(top, top + side), slice(left, left + side))
        worse[block] = hack(image[block], wet[block]).clamp(0, 1)
        if truth is None or (worse - truth).square().mean() > (image - truth).square().mean():
            falls.append(bool(scorer(worse, wet) < scorer(image, wet)))
    return sum(falls) / len(falls) if falls else math.nan
