"""What a score with a map adds to stage 2: which pixels of a reward count, how much, and the score's own gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from ..config import LossConfig
from . import losses


class Guidance(NamedTuple):
    """All of it is left out by default."""

    spoiled: Tensor | None = None  # where the rewards are spoiled, [N, 1, H, W] in [0, 1]
    scale: float = 1.0  # of the reward loss
    score: Callable[[Tensor, Tensor], Tensor] | None = None  # (derained, rainy) -> R, [N], with gradient to derained
    fidelity: float = 0.1  # see `losses.reward_gradient`


NO_GUIDANCE = Guidance()


def reward_terms(
    rainy: Tensor,
    derained: Tensor,
    reward: Tensor,
    improved: Tensor,
    weights: LossConfig,
    rewarded: Tensor | None,
    guidance: Guidance,
) -> dict[str, Tensor]:
    """The terms that draw the derainer to its rewards, and to what the score asks for; see `losses`."""
    terms: dict[str, Tensor] = {}
    if weights.reward:
        loss = losses.reward_loss(reward, derained, improved, weights.reward_form, rewarded, guidance.spoiled)
        terms["reward"] = loss if guidance.scale == 1 else guidance.scale * loss
    if weights.reward_gradient and guidance.score is not None:
        scores = guidance.score(derained, rainy)
        terms["reward_gradient"] = losses.reward_gradient(scores, rainy, derained, guidance.fidelity)
    return terms
