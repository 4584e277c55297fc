"""The stages of a run's FinPercep-RM: when the score grows finer, is fitted, and what is scored anew then."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..data import to_batch
from ..iqa import FinpercepScorer, restore_scorer
from ..networks import evaluating
from ..rewards.curriculum import Curriculum
from ..rewards.own_faults import OwnFaults, fit_in_run, painted_pairs
from ..rewards.sweep import rescore
from ..system.device import to_device
from ..system.watch import Watch, nobody

if TYPE_CHECKING:
    from .trainer import Trainer


class Moved(NamedTuple):
    """A change of the score."""

    stage: int  # from now on
    stays: bool  # instead of going on, since the held-out metric fell


class RewardStages:
    """Asks the curriculum before every iteration, and does what a change of stage needs.

    Args:
        trainer: the run.
        scorer: its score, which is changed in place.
        scratch: folder for what its own derainer made of the bank; None: memory.
    """

    def __init__(self, trainer: Trainer, scorer: FinpercepScorer, scratch: Path | None) -> None:
        config = trainer.config
        self.trainer, self.scorer = trainer, scorer
        self.ready = config.reward.scorer != "finpercep"  # from a file, or a scorer of the user's
        self.curriculum = Curriculum(config, self.ready, trainer.sweep_every)
        self.own = OwnFaults(trainer.domains.clean, config.seed, None if scratch is None else scratch / "fgr")
        if scorer.networks:
            scorer.stage = self.curriculum.stage
        self._guide()

    def move_on(self, watch: Watch = nobody) -> Moved | None:
        """Change the stage where it is time to; None where it is not. `watch` is told how far a fit is."""
        waited = self.curriculum.until
        stage = self.curriculum.ask(self.trainer.step)
        if stage == self.scorer.stage:
            return Moved(stage, True) if self.curriculum.until > waited else None
        if not self.scorer.networks:
            self._fit(watch)
        self.scorer.stage = stage
        self._rescore()
        self.trainer.patience.clear()
        self._guide()
        return Moved(stage, False)

    def after_sweep(self, mean_score: float) -> None:
        """Note a sweep; in stage 1 of a run that fits its score also keep its derainer's faults."""
        self.curriculum.note_sweep(mean_score)
        trainer = self.trainer
        if not self.ready and trainer.stage == 1 and trainer.ranks.first:
            with evaluating(trainer.derainer) as network:
                self.own.keep(network, trainer.step, trainer.device)

    def note_held_out(self, metric: float | None) -> None:
        """Note the held-out metric of the first rank, which measures it; every rank must ask."""
        self.curriculum.note_held_out(self.trainer.ranks.broadcast(metric))

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run goes on with; the scorer's state is the trainer's."""
        return {"curriculum": self.curriculum.state_dict(), "own": self.own.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.curriculum.load_state_dict(state["curriculum"])
        self.own.steps = [int(step) for step in state["own"]]
        self.scorer.stage = min(self.curriculum.stage, len(self.scorer.networks))
        self._guide()

    def _fit(self, watch: Watch) -> None:
        """Fit on the first rank, so that all score alike."""
        trainer, reward = self.trainer, self.trainer.config.reward
        state = None
        if trainer.ranks.first:
            sets = trainer.domains.rainy, trainer.domains.clean
            painted = painted_pairs(trainer.nets, *sets, trainer.config.loss.generator, trainer.device)
            own, seed = self.own, trainer.config.seed
            fit_in_run(self.scorer, own, painted, seed, reward.fit_iterations, trainer.device, watch)
            state = self.scorer.state()
        state = trainer.ranks.broadcast(state)
        if not trainer.ranks.first:
            fitted = restore_scorer(reward.scorer, state, trainer.device)
            assert isinstance(fitted, FinpercepScorer)
            self.scorer.take(fitted.networks)
            self.scorer.side = fitted.side

    def _rescore(self) -> None:
        """Score every stored version anew: a score of one stage says nothing beside one of another."""
        trainer = self.trainer
        for index in range(trainer.ranks.rank, len(trainer.domains.rainy), trainer.ranks.count):
            if trainer.pool.holds(index):
                rainy = to_device(to_batch(trainer.domains.rainy[index]), trainer.device)
                rescore(trainer.pool, index, rainy, self.scorer)

    def _guide(self) -> None:
        score = self.scorer.reward if self.scorer.maps else None
        self.trainer.train_step.guide(self.curriculum.scale, score)
