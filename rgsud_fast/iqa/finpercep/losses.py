"""What FinPercep-RM's network learns by: the map, the order of images by their faults, and an anchor of its scale."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from .generated import Batch
from .network import ScoreNet

MapLoss: TypeAlias = Literal["bce", "l1"]

MAP, RANK, ALIGN = 1.0, 2.0, 0.5  # weights
SPOILED, WEIGHT = 0.05, 2.0  # where the truth is above it, a pixel weighs so much; with more, clean images look spoiled
STEP, LEAST, MOST = 4.0, 0.02, 0.6  # score per error, and bounds of a step; heavy rain has an error of 0.1
OVER = 0.5  # price of a step that is too large, where one that is too small costs 1


class Terms(NamedTuple):
    """The unweighted terms, scalars."""

    map: Tensor
    rank: Tensor
    align: Tensor

    @property
    def loss(self) -> Tensor:
        """Their weighted sum."""
        return MAP * self.map + RANK * self.rank + ALIGN * self.align


def terms_of(network: ScoreNet, batch: Batch, anchors: Tensor, stage: int, map_loss: MapLoss = "bce") -> Terms:
    """The terms of a batch.

    Args:
        network: the network.
        batch: N triplets of a clean image, a weak result, and the swap of both.
        anchors: scores in (0, 1) that the N clean images shall have.
        stage: 1, 2 or 3: how far the decoder goes.
        map_loss: "l1" is the paper's; with it most maps end at 0, the median of a truth that is mostly 0.
    """
    images = [
        (batch.clean, batch.clean.new_zeros(batch.weak_truth.shape)),
        (batch.swapped, batch.swapped_truth),
        (batch.weak, batch.weak_truth),
    ]
    logits, maps, truths = [], [], []
    for image, truth in images:
        logit, spoiled = network(image, batch.known * (batch.rainy - image), stage)
        logits.append(logit)
        maps.append(F.interpolate(spoiled, size=truth.shape[2:], mode="bilinear", align_corners=False))
        truths.append(truth)
    scores = [logit.sigmoid() for logit in logits]
    of_maps = [map_term(spoiled, truth, map_loss) for spoiled, truth in zip(maps, truths, strict=True)]
    errors = [(image - batch.clean).square().mean((1, 2, 3)).sqrt() for image, _ in images]
    return Terms((of_maps[0] + of_maps[1] + of_maps[2]) / 3, rank_term(scores, errors), align_term(scores[0], anchors))


def map_term(spoiled: Tensor, truth: Tensor, kind: MapLoss) -> Tensor:
    """Sum of w * BCE / sum of w, with w = 2 where the truth is above 0.05 and else 1; or the plain L1.

    Args:
        spoiled: logits, [N, 1, H, W].
        truth: in [0, 1], same shape.
        kind: see `terms_of`.
    """
    if kind == "l1":
        return F.l1_loss(spoiled.sigmoid(), truth)
    weights = 1 + (WEIGHT - 1) * (truth > SPOILED)
    return (weights * F.binary_cross_entropy_with_logits(spoiled, truth, reduction="none")).sum() / weights.sum()


def rank_term(scores: list[Tensor], errors: list[Tensor]) -> Tensor:
    """Score differences: as the errors differ, too small a step costing twice as much as one too large.

    Asked is 4 (e_swapped - e_clean) from the clean image down to the swapped, 0.02 at least, and 4 (e_weak - e_swapped)
    from there to the weak, each at most 0.6. Fixed margins would ask for the same step for a fault on 2 % and on 60 %
    of the image; without a price of steps that are too large, versions of one scene are not ranked by their PSNR.

    Args:
        scores: of the clean, the swapped and the weak images, [N] in (0, 1) each.
        errors: the roots of their mean squared errors, [N] each.
    """
    total = scores[0].new_zeros(())
    for upper, least in ((0, LEAST), (1, 0.0)):
        asked = (STEP * (errors[upper + 1] - errors[upper])).clamp(least, MOST)
        missing = asked - (scores[upper] - scores[upper + 1])
        total = total + torch.maximum(missing, -OVER * missing).mean()
    return total


def align_term(scores: Tensor, anchors: Tensor) -> Tensor:
    """L1 to the anchors, [N] each: the score keeps the order of the base score among clean images."""
    return (scores - anchors).abs().mean()
