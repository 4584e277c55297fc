"""The state of a run, what advances it by an iteration or a sweep, and its exact resume."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..config import Config
from ..data import Domains, to_batch
from ..errors import UserError, reason
from ..iqa import FinpercepScorer, Scorer
from ..methods.build import build_networks, find_method
from ..methods.method import Drawing
from ..networks.known import check_parts, parts_of
from ..optim.moving_average import MovingAverage
from ..rewards.distributed_pool import ShardedPool, build_pool
from ..rewards.patience import Patience
from ..rewards.sweep import Sweep, offer_first, open_toolbox, summary_of, sweep
from ..system.device import to_device
from ..system.distributed import Ranks
from ..system.watch import Watch, nobody, watched
from .best_weights import BestWeights
from .divisible import check_alike, check_divisible
from .feed import Feed
from .reward_stages import RewardStages
from .step import TrainStep
from .type_weights import TypeWeights
from .validation import sweep_window_of


class Iteration(NamedTuple):
    """What one iteration computed, scalars. With `cuda_graph` later iterations overwrite the tensors."""

    stage: int  # 1 or 2
    loss: Tensor  # of derainer, U-Net and generator
    terms: dict[str, Tensor]  # the unweighted terms of the loss, the discriminator's loss, the gradients' norms
    term_gradients: dict[str, Tensor]  # the gradient norm of each term, where a log line follows


class Standing(NamedTuple):
    """Where a run stands after an iteration."""

    rate: float  # learning rate of derainer, U-Net and generator
    rewards: int  # images with a reward
    skipped: dict[str, int]  # steps so far, by the networks that they would have changed


class Trainer:
    """The state of a run and what advances it by one iteration; it touches no file.

    Args:
        config: the run.
        domains: its images.
        scorer: judges derained images in sweeps.
        device: where everything lives.
        derainer: a network of the user's own instead of NAFNet.
        scratch: folder for rewards that no memory holds.
        ranks: the processes that train together, of which this is one; default: this one alone.
        method: a method of the user's own (see `methods.method.Method`) in place of `config.method`.

    Raises:
        UserError: the run cannot be divided over so many processes.
    """

    def __init__(
        self,
        config: Config,
        domains: Domains,
        scorer: Scorer,
        device: torch.device,
        derainer: nn.Module | None = None,
        scratch: Path | None = None,
        ranks: Ranks | None = None,
        method: Any = None,
    ) -> None:
        self.ranks = ranks or Ranks(device)
        check_divisible(config, domains, self.ranks.count)
        self.config, self.domains, self.scorer, self.device = config, domains, scorer, device
        check_alike(self._images(), domains, self.ranks)
        self.recycles = domains.unpaired  # whether there are sweeps and rewards: labelled pairs alone need none
        self.step = 0  # iterations done
        self.sweeps = 0  # sweeps done
        self.warm = False  # whether the discriminator has had its warm-up
        self.stage1_metrics: dict[str, float] = {}
        self.method = find_method(config, method)
        self.nets = build_networks(config, device, derainer, self.method)
        self.train_step = TrainStep(config, self.nets, device, self.ranks, self.method)
        self.average = MovingAverage(self.nets.derainer, config.optim.ema_decay)
        self.best = BestWeights() if config.keep_weights == "best" else None
        self.chosen: nn.Module | None = None  # the derainer of the best validation, once the run has ended
        self.patience = Patience(config.reward.patience, config.reward.least_gain, device)
        self.outcomes: dict[int, int] = {}  # by image: what became of its last candidate, a place in sweep.OUTCOMES
        open_toolbox(config.reward, device)  # what cannot be used is told before the first step
        self.pool = build_pool(config, domains, self.ranks, scratch)
        self.reward_stages = RewardStages(self, scorer, scratch) if isinstance(scorer, FinpercepScorer) else None
        draws = self.method.draws(config) if isinstance(self.method, Drawing) else None
        reads = self.method.reads(config)
        judges = len(self.method.JUDGES)
        self.feed = Feed(config, domains, device, self.ranks, reads, draws, judges)  # after what must be on the device
        pairs = domains.pairs if "labelled" in reads else None
        self.type_weights = None if pairs is None else TypeWeights(config, pairs, self.ranks, self.train_step.notices)

    @property
    def stage(self) -> int:
        """1 or 2: the stage of the next iteration."""
        return 1 if self.step < self.config.stage1_iterations else 2

    @property
    def switched(self) -> bool:
        """Whether stage 2 has begun to take rain from rewards, where there are any, and not from the U-Net."""
        return self.config.reward.switch and self.step > self.config.stage1_iterations

    @property
    def derainer(self) -> nn.Module:
        """The derainer that judges, validates and is saved: the moving average where it is on, at the end the best."""
        if self.chosen is not None:
            return self.chosen
        return self.average.module if self.config.optim.ema_decay else self.nets.derainer

    def iterate(self) -> Iteration:
        """Do one iteration: generator side, then discriminator."""
        self.warm_up()
        self.train_step.set_rates(self.step)
        stage = self.stage
        layers = self.pool if "pasted" in self.feed.reads else None
        if self.type_weights is not None:
            self.feed.type_weights = self.type_weights.by_type
        inputs = self.feed.images(self.step, self.pool if stage == 2 and self.recycles else None, layers)
        self.step += 1
        term_gradients = (
            self.train_step.term_gradients(stage, inputs) if self.config.log_gradients and self.line_due else {}
        )
        outputs = self.train_step.generator_side(stage, inputs)
        if self.config.optim.ema_decay:
            self.average.update_parameters(self.nets.derainer, skip=self.train_step.filter.row > 0)
        if stage == 2 and self.config.reward.patience and self.recycles:
            rewarded = inputs["improved"].sum()
            averaged = inputs.get("rewarded", rewarded)  # see `losses.reward_loss`
            self.patience.note_iteration(outputs.get("reward", 0.0) * averaged, rewarded)
        loss = outputs.pop("loss")
        return Iteration(stage, loss, outputs, term_gradients)

    def choose_best(self) -> None:
        """Derain from now on by the weights of the best validation, where these are kept."""
        if self.best is not None and self.best.weights and self.best.step != self.step:
            self.chosen = self.average.module  # a copy since the start: one that was trained may not be copied
            self.chosen.load_state_dict(self.best.weights)

    @property
    def kept_step(self) -> int:
        """The step of the weights that are saved."""
        return self.step if self.chosen is None or self.best is None else self.best.step

    def standing(self) -> Standing:
        """Where the run stands. Waits for the device; every rank must ask."""
        skipped = {name: int(step_filter.skipped) for name, step_filter in self.train_step.filters.items()}
        return Standing(self.train_step.rate, int(self.pool.filled.sum()), skipped)

    @property
    def ended(self) -> bool:
        """Whether there is no further iteration: all are done, or the patience of stage 2 is spent."""
        return self.step >= self.config.iterations or self.patience.spent

    @property
    def line_due(self) -> bool:
        """Whether the iterations done so far end with a log line: no line averages over both stages."""
        ends = self.step in (self.config.stage1_iterations, self.config.iterations)
        return ends or self.step % self.config.log_every == 0

    def sweep_due(self) -> bool:
        """Whether a sweep belongs before the next iteration."""
        start = round(self.config.reward.sweep_start * self.config.stage1_iterations)
        return self.recycles and self.step >= start and (self.step - start) % self.sweep_every == 0

    @property
    def sweep_every(self) -> int:
        """Iterations between sweeps; by default an epoch-equivalent of the rainy set between 1,000 and 5,000."""
        epoch = math.ceil(len(self.domains.rainy) / self.config.batch)
        return self.config.reward.sweep_every or min(max(epoch, 1000), 5000)

    def seed_rewards(self, watch: Watch = nobody) -> Sweep | None:
        """Offer first rewards, which need no training, to the pool; None where there are none or training has begun.

        `watch` is told how many images are done; on several ranks all tell it equally often.
        """
        if self.config.reward.first == "none" or self.step or not self.recycles:
            return None
        count, images, outcomes = self.ranks.count, self.domains.rainy, []
        for first in range(0, len(images), count):
            index = first + self.ranks.rank
            if index < len(images):
                rainy = to_device(to_batch(images[index]), self.device)
                outcomes.append(offer_first(rainy, index, self.scorer, self.pool, self.config.reward))
            watch(min(first + count, len(images)), len(images))
        return summary_of([place for some in self.ranks.all_gather(outcomes) for place in some], self.pool)

    def sweep(self, watch: Watch = nobody) -> Sweep:
        """Offer the present derainer's output to the reward pool; sets larger than a sweep roll over in parts.

        Each rank sweeps the images whose rewards it keeps, and tells `watch` how many of them are done.
        """
        images = len(self.domains.rainy)
        count = min(images, self.config.reward.sweep_images)
        indices = [(self.sweeps * count + i) % images for i in range(count)]
        self.sweeps += 1
        own = [index for index in indices if index % self.ranks.count == self.ranks.rank]
        judged = self.scorer, self.pool, self.device, self.config.reward
        result, outcomes = sweep(self.derainer, self.domains.rainy, own, *judged, watch, sweep_window_of(self.config))
        for found in self.ranks.all_gather(dict(zip(own, outcomes, strict=True))):
            self.outcomes |= found
        done = summary_of([self.outcomes[index] for index in indices], self.pool)
        if result.toolbox is not None:
            done = done._replace(toolbox=sum(self.ranks.all_gather(result.toolbox)))
        if self.reward_stages is not None:
            self.reward_stages.after_sweep(done.mean_score)
        if self.stage == 2:
            self.patience.note_sweep(done.mean_score, self.ranks.all_reduce(self.patience.losses))
        return done

    def collect_rewards(self) -> None:
        """Bring all rewards to rank 0, whose pool then holds every image; the end of a run, for every rank."""
        if isinstance(self.pool, ShardedPool):
            self.pool = self.pool.whole() or self.pool

    def state_dict(self) -> dict[str, Any]:
        """Everything an exact resume needs, on rank 0; every rank must ask for it."""
        return {
            "step": self.step,
            "method": self.method.NAME,
            "sweeps": self.sweeps,
            "stage1_metrics": self.stage1_metrics,
            "sizes": self.config.network.built,
            "parts": parts_of(self.nets._asdict()),
            "networks": {name: net.state_dict() for name, net in self.nets._asdict().items()},
            "average": self.average.state_dict(),
            **self.train_step.state_dict(),
            "patience": self.patience.state_dict() | {"losses": self.ranks.all_reduce(self.patience.losses)},
            "pool": self.pool.state_dict(),
            "outcomes": self.outcomes,
            "scorer": {"name": self.scorer.name, "state": self.scorer.state()},
            "images": self._images(),
            **({} if self.best is None else {"best": self.best.state_dict()}),
            **({} if self.type_weights is None else {"type_weights": self.type_weights.state_dict()}),
            **({} if self.reward_stages is None else {"reward_stages": self.reward_stages.state_dict()}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            UserError: it belongs to a run with other networks or images.
        """
        if state["images"] != self._images():
            raise UserError("the rainy or clean images are not those of the checkpoint; start a new run for them")
        if (trained_by := state.get("method", "rgsud")) != self.method.NAME:
            raise UserError(f"the checkpoint is of the method {trained_by}, not {self.method.NAME}; start a new run")
        for field, now in self.config.network.built.items():
            if (saved := state.get("sizes", {}).get(field, now)) != now:
                raise UserError(f"network.{field} is {now}, and {saved} in the checkpoint; start a new run for it")
        check_parts(self.nets._asdict(), state.get("parts", {}))
        try:
            for name, net in self.nets._asdict().items():
                net.load_state_dict(state["networks"][name])
            self.average.load_state_dict(state["average"])
            self.train_step.load_state_dict(state)
            if self.recycles:
                self.pool.load_state_dict(state["pool"])
            if "patience" in state:  # not in older files
                self.patience.load_state_dict(state["patience"])
                self.patience.losses *= self.ranks.first  # they are the sum over ranks
            if self.best is not None and "best" in state:
                self.best.load_state_dict(state["best"])
            if self.type_weights is not None and "type_weights" in state:
                self.type_weights.load_state_dict(state["type_weights"])
            if self.reward_stages is not None and "reward_stages" in state:
                self.reward_stages.load_state_dict(state["reward_stages"])
            self.stage1_metrics = {str(name): float(value) for name, value in state["stage1_metrics"].items()}
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise UserError(f"the checkpoint is of a run with other networks or images: {reason(error)}") from None
        self.step, self.sweeps = state["step"], state["sweeps"]
        self.outcomes = {i: place for i, place in state.get("outcomes", {}).items() if i < len(self.domains.rainy)}

    def _images(self) -> list[list[str]]:
        """What a checkpoint's rewards and crops belong to."""
        pairs = self.domains.pairs if self.domains.unpaired else None
        sets = [self.domains.rainy, self.domains.clean, *([] if pairs is None else [pairs.rainy, pairs.clean])]
        return [list(images.digests) for images in sets]

    def warm_up(self, watch: Watch = nobody) -> None:
        """Teach judges rainy from clean, where what paints starts, before the first iteration; `watch` counts steps."""
        if self.step or self.warm or not set(self.method.JUDGES) & set(self.method.trained(self.config)):
            return
        self.train_step.set_rates(self.step, rising=False)
        for step in watched(range(self.config.optim.discriminator_warmup), watch):
            self.train_step.discriminator_side(self.method.warm(self.feed.pair(step)))
        self.warm = True
