"""Which stage of FinPercep-RM scores when: the reward grows harder with the derainer, and never goes back."""

from __future__ import annotations

from typing import Any

from ..config import Config
from .hacking import TOLERANCE

LAST = 3  # the last stage
SCALES = (1.0, 0.4, 0.7, 1.0)  # of the reward loss, by stage: a coarse reward teaches less
SWEEPS, LEAST_RISE = 4, 1e-3  # "plateau": sweeps in which the mean score rose by less than this


class Curriculum:
    """A policy with a state of its own: asked before every iteration, told of every sweep.

    In stage 1 of the method the score is that of stage 0. In stage 2 it is, with `off`, at once the last; with
    `schedule` the stages 1, 2 and 3 for their shares of it; with `plateau` the next one when scores no longer rise. A
    stage in which the held-out metric fell by more than 2 % is stayed in for one more period between sweeps.

    Args:
        config: `reward.curriculum`, `reward.curriculum_shares`, and the iterations of both stages.
        ready: whether the networks are there from the start, and not fitted at the end of stage 1.
        period: iterations between sweeps.
    """

    def __init__(self, config: Config, ready: bool, period: int) -> None:
        self.kind, self.shares = config.reward.curriculum, config.reward.curriculum_shares
        self.stage1, self.stage2 = config.stage1_iterations, config.stage2_iterations
        self.ready, self.period = ready, period
        self.stage = LAST if ready and self.kind == "off" else 0
        self.scores: list[float] = []  # mean scores after the sweeps of this stage
        self.held_out: list[float] = []  # the held-out metric after them
        self.until = -1  # iteration up to which the stage is stayed in, since that metric fell; -1: not asked yet

    @property
    def scale(self) -> float:
        """What the reward loss is multiplied with."""
        return 1.0 if self.kind == "off" else SCALES[self.stage]

    @property
    def fell(self) -> bool:
        """Whether the held-out metric fell in this stage."""
        if len(self.held_out) < 2:
            return False
        return self.held_out[-1] < self.held_out[0] - TOLERANCE * abs(self.held_out[0])

    def ask(self, step: int) -> int:
        """The stage of the next iteration, when so many are done."""
        if self._due(step):
            if self.stage and self.fell and self.until < 0:
                self.until = step + self.period
            elif step >= self.until:
                self.stage = LAST if self.kind == "off" else self.stage + 1
                self.scores, self.held_out, self.until = [], [], -1
        return self.stage

    def note_sweep(self, score: float) -> None:
        """Note the pool's mean score after a sweep."""
        self.scores.append(score)

    def note_held_out(self, metric: float | None) -> None:
        """Note the held-out metric after a sweep; None where there is none."""
        if metric is not None:
            self.held_out.append(metric)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on with."""
        return {name: getattr(self, name) for name in ("stage", "scores", "held_out", "until")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.stage, self.until = int(state["stage"]), int(state["until"])
        self.scores, self.held_out = list(state["scores"]), list(state["held_out"])

    def _due(self, step: int) -> bool:
        """Whether the next stage's time has come."""
        if self.stage >= LAST or step < self.stage1 or not self.stage2:
            return False
        if self.stage == 0:
            return True
        if self.kind == "plateau":
            recent = self.scores[-SWEEPS:]
            return len(recent) == SWEEPS and recent[-1] - recent[0] < LEAST_RISE
        return step - self.stage1 >= round(sum(self.shares[: self.stage]) * self.stage2)
