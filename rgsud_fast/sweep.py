"""A sweep: derain whole training images, score the results, and offer them to the reward pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .data import ImageSet, to_tensor
from .iqa import Scorer
from .networks import evaluating
from .pool import RewardPool
from .tiles import run_tiled

VARIANCE = 1e-4  # smallest variance of a photograph in [0, 1]; less is blank


class Sweep(NamedTuple):
    """What a sweep did."""

    images: int  # scored
    entered: int  # taken into the pool
    refused: int  # stopped by the guards, or with a score that is not finite
    mean_score: float  # mean of the pool's best scores afterwards


def sweep(
    derainer: nn.Module,
    rainy: ImageSet,
    indices: Sequence[int],
    scorer: Scorer,
    pool: RewardPool,
    device: torch.device,
    fidelity: float,
) -> Sweep:
    """Offer the derainer's present output on whole images to the pool.

    One image at a time, so that a score never depends on its neighbours; the host waits once, at the end.

    Args:
        derainer: network to run, [1, 3, H, W] -> the same; put in evaluation mode meanwhile.
        rainy: the rainy training images.
        indices: which of them.
        scorer: image-quality score, higher is better.
        pool: is updated.
        device: where networks and pool live.
        fidelity: largest mean low-frequency change that may enter, in [0, 1].
    """
    entered, refused = [], []
    with evaluating(derainer):
        for index in indices:
            image = to_tensor(rainy[index])[None].to(device)
            derained = run_tiled(derainer, image).clamp(0, 1)
            score = scorer.score(derained, rainy=image)
            accepted = plausible(derained, image, fidelity) & torch.isfinite(score)
            entered.append(pool.update([index], derained, torch.where(accepted, score, float("nan"))))
            refused.append(~accepted)
    counts = torch.stack([torch.cat(entered).sum(), torch.cat(refused).sum()]).tolist()
    return Sweep(len(indices), counts[0], counts[1], float(pool.mean_score()))


def plausible(derained: Tensor, rainy: Tensor, fidelity: float) -> Tensor:
    """Guard the pool against gamed scores: same low frequencies as the rainy image, not blank, finite.

    Args:
        derained: candidates, [N, 3, H, W].
        rainy: the images they were made from, same shape.
        fidelity: largest mean low-frequency change, in [0, 1], that rain removal explains; more is another picture.

    Returns:
        Which candidates may enter, [N] bool.
    """
    change = F.avg_pool2d(rainy - derained, 15, stride=4)
    faithful = change.abs().mean(dim=(1, 2, 3)) < fidelity
    alive = derained.var(dim=(1, 2, 3)) > VARIANCE
    return faithful & alive & torch.isfinite(derained).all(dim=(1, 2, 3))
