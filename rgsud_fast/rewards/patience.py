"""The early end of stage 2: the rewards no longer get better, and the derainer no longer gets nearer to them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class Patience:
    """Counts the sweeps of stage 2 since the pool's mean score or the mean reward loss last improved.

    Args:
        sweeps: how many without an improvement are too many; 0: never.
        least_gain: smallest improvement that counts, as a share of the best value so far.
        device: where losses are.
    """

    def __init__(self, sweeps: int, least_gain: float, device: torch.device) -> None:
        self.sweeps, self.least_gain = sweeps, least_gain
        self.best_score, self.best_loss = -math.inf, math.inf
        self.waited = 0  # sweeps without an improvement
        self.losses = torch.zeros(2, dtype=torch.float64, device=device)  # since the last sweep: sum, and how many

    @property
    def spent(self) -> bool:
        """Whether it is time to stop."""
        return 0 < self.sweeps <= self.waited

    def clear(self) -> None:
        """Begin anew: scores and losses are of another scale from now on."""
        self.best_score, self.best_loss, self.waited = -math.inf, math.inf, 0
        self.losses.zero_()

    def note_iteration(self, losses: Tensor, images: Tensor) -> None:
        """Note an iteration: the sum of its images' reward losses, and how many images have a reward; scalars.

        A sum that is not finite is left out: it belongs to a step that was skipped.
        """
        finite = torch.isfinite(losses.detach())
        self.losses += torch.stack([torch.where(finite, losses.detach(), 0), images * finite])

    def note_sweep(self, score: float, losses: Tensor) -> None:
        """Note a sweep; one before which no image had a reward says nothing.

        Several processes decide alike, since what they pass is equal on all.

        Args:
            score: the pool's mean score after the sweep.
            losses: `losses`; of several processes the sum of theirs.
        """
        total, count = losses.tolist()
        self.losses.zero_()
        if not count:
            return
        loss, gains = total / count, False
        if score > self.best_score + self._least(self.best_score):
            self.best_score, gains = score, True
        if loss < self.best_loss - self._least(self.best_loss):
            self.best_loss, gains = loss, True
        self.waited = 0 if gains else self.waited + 1

    def _least(self, best: float) -> float:
        return self.least_gain * abs(best) if math.isfinite(best) else 0.0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on with."""
        return {name: getattr(self, name) for name in ("best_score", "best_loss", "waited", "losses")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.best_score, self.best_loss, self.waited = (state[name] for name in ("best_score", "best_loss", "waited"))
        self.losses.copy_(state["losses"])
