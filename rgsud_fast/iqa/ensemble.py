"""Several scores as one, so that no single metric rules the rewards: the mean of ranks among known photographs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..data import evenly, to_batch
from ..errors import UserError
from ..system.watch import Watch, nobody, watched
from .scorer import Scorer

MOST = 64  # photographs that a member's ranks are taken among


class EnsembleScorer:
    """Psi = the mean over members of the image's rank among reference photographs, 0 the worst and 1 the best of them.

    A rank among fixed photographs and not among the other candidates: so a score means the same in every sweep. Beyond
    the photographs' scores it goes on along a straight line, and between them from one to the next.

    Args:
        members: the scorers.
        references: of each, its scores of the reference photographs in order, [M].
    """

    def __init__(self, members: Sequence[Scorer], references: Sequence[Tensor]):
        if any(reference.dim() != 1 or len(reference) < 2 for reference in references):
            raise ValueError("the scores of the reference photographs must be two or more of each member")
        self.members, self.references = list(members), list(references)
        self.name = f"ensemble:[{','.join(member.name for member in members)}]"

    def score(self, images: Tensor, rainy: Tensor | None = None) -> Tensor:
        """Score each image by itself; see `Scorer.score`. What any member rejects is rejected."""
        ranks = [
            rank(member.score(images, rainy), reference.to(images.device))
            for member, reference in zip(self.members, self.references, strict=True)
        ]
        return torch.stack(ranks).mean(0)

    def state(self) -> dict[str, Tensor]:
        """The references and the members' states, each under its member's number."""
        state = {f"{i}.reference": reference.cpu() for i, reference in enumerate(self.references)}
        for i, member in enumerate(self.members):
            state |= {f"{i}.state.{name}": value for name, value in member.state().items()}
        return state


def fit_ensemble(
    members: Sequence[Scorer],
    photographs: Sequence[Sequence[np.ndarray]],
    device: torch.device | str = "cpu",
    watch: Watch = nobody,
) -> EnsembleScorer:
    """Score photographs by every member, to have something that ranks mean.

    Args:
        members: the scorers, as they will score later.
        photographs: sets of good and of bad ones, uint8 [H, W, 3] each; at most 64 are read, evenly spread.
        device: where to score.
        watch: told how many photographs are done.

    Raises:
        UserError: a member gives fewer than two different scores.
    """
    places = [(which, index) for which, images in enumerate(photographs) for index in range(len(images))]
    chosen = evenly(len(places), MOST)
    scores: list[list[Tensor]] = [[] for _ in members]
    for place in watched(chosen, watch):
        which, index = places[place]
        image = to_batch(photographs[which][index], device)
        for found, member in zip(scores, members, strict=True):
            found.append(member.score(image))
    references = []
    for member, found in zip(members, scores, strict=True):
        values = torch.cat(found) if found else torch.zeros(0)
        reference = values[values.isfinite()].float().unique()  # in order
        if len(reference) < 2:
            raise UserError(f"scorer ensemble: {member.name} tells the {len(chosen)} photographs not apart")
        references.append(reference)
    return EnsembleScorer(members, references)


def rank(scores: Tensor, reference: Tensor) -> Tensor:
    """Where scores [N] lie among the reference [M], in order and all different: 0 at the first, 1 at the last."""
    steps = len(reference) - 1
    right = torch.searchsorted(reference, scores.contiguous()).clamp(1, steps)
    left, gap = reference[right - 1], reference[right] - reference[right - 1]
    between = (right - 1 + (scores - left) / gap) / steps
    overall = (scores - reference[0]) / (reference[-1] - reference[0])  # outside: the slope of the whole
    return torch.where((scores < reference[0]) | (scores > reference[-1]), overall, between)
