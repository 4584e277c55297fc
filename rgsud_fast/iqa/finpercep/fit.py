"""Fitting FinPercep-RM to a user's photographs: three networks, each begun where the one before ended."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ...system.prefetch import Prefetch
from ...system.side_by_side import learn_from, sharing_cores
from ...system.watch import Watch, nobody
from .generated import Batch, Material, Structure, draw_batch, with_truths_by
from .load import like
from .losses import MapLoss, Terms, terms_of
from .network import SIZES, STAGES, Gate, ScoreNet, blank
from .practised import practise
from .scorer import FinpercepScorer

SHARES = (0.3, 0.3, 0.4)  # of the iterations, by stage
WARM_UP, FIRST, LAST = 0.3, 1 / 25, 1e-4  # of the learning rate's one cycle per stage: share, and shares of the peak
PEAKS = (1.0, 0.5, 0.5)  # of the recipe's learning rate, by stage: the whole of it undoes what is learned already
WEIGHT_DECAY = 0.01
LARGEST = 1.0  # norm of the gradient: single batches of strong faults have ten times as much


class Recipe(NamedTuple):
    """How a size is fitted."""

    side: int  # of the crops, in pixels
    batch: int  # triplets
    iterations: int  # of all stages together
    peak: float  # learning rate


RECIPES = {
    "small": Recipe(96, 6, 2_600, 3e-3),
    "base": Recipe(256, 32, 30_000, 1e-3),
    "clip": Recipe(256, 32, 30_000, 1e-4),
}


class Fit:
    """The state of a fit, and what advances it by an iteration. Its samples are functions of the seed and the step.

    Args:
        material: photographs and families of faults.
        scorer: gives the anchors, and gets the networks at the end.
        size: "small" or "base"; or "clip", with `start`.
        seed: of everything drawn.
        iterations: of all stages together; default: the recipe's.
        device: where to fit.
        recipe: of other crops or batches; default: the size's.
        map_loss, gate: the paper's "l1" and "literal" for comparison; see `terms_of` and `FinPercepNet`.
        structure: second part of the maps' truth in place of SSIM's; see `generated.spoiled_truth`.
        start: a network of which the fit begins, such as `clip.read_clip` gives.
        workers: processes that make samples ahead; 0: a thread does.
        derainers: that are trained before it, whose faults it learns, too; see `practised.practise`.
    """

    def __init__(
        self,
        material: Material,
        scorer: FinpercepScorer,
        size: str = "small",
        seed: int = 0,
        iterations: int | None = None,
        device: torch.device | str = "cpu",
        *,
        recipe: Recipe | None = None,
        map_loss: MapLoss = "bce",
        gate: Gate = "kept",
        structure: Structure | None = None,
        start: ScoreNet | None = None,
        workers: int = 0,
        derainers: int = 0,
    ) -> None:
        self.material, self.scorer, self.seed, self.device = material, scorer, seed, torch.device(device)
        self.recipe = recipe or RECIPES[size]
        self.map_loss, self.structure, self.workers = map_loss, structure, workers
        self.derainers = derainers
        self.iterations = max(iterations or self.recipe.iterations, STAGES)
        self.step = 0  # iterations done
        self.done: list[ScoreNet] = []  # networks of the stages that have ended
        first = start if start is not None else blank(*SIZES[size], gate)
        self._begin(first.initialise(torch.Generator().manual_seed(seed)).to(self.device))

    @property
    def stage(self) -> int:
        """1, 2 or 3: the stage of the next iteration."""
        return len(self.done) + 1

    @property
    def between(self) -> bool:
        """Whether the last iteration ended a stage, so that the next one has learned nothing yet."""
        return bool(self.done) and (self.ended or self.step == self._span(self.stage)[0])

    @property
    def ended(self) -> bool:
        """Whether all stages have."""
        return self.step >= self.iterations

    def prepare(self, watch: Watch = nobody) -> None:
        """Train the derainers; once, and anew in a fit that goes on."""
        if self.derainers and not self.material.practised:
            options = self.seed, self.iterations, self.device, self.derainers
            self.material = dataclasses.replace(self.material, practised=practise(self.material.clean, *options, watch))

    def run(self, watch: Watch = nobody, each: Callable[[Terms], None] = lambda terms: None) -> FinpercepScorer:
        """Go on to the end; `each` is called after every iteration with its terms. Returns the scorer."""
        self.prepare()
        with sharing_cores(self.device):
            for batch in self._batches():
                each(self.advance(batch))
                watch(self.step, self.iterations)
        self.scorer.take(self.done)
        self.scorer.side = self.recipe.side
        return self.scorer

    def advance(self, batch: Batch) -> Terms:
        """One iteration on a batch of samples.

        On a CPU it learns the mean of the losses of two halves, whatever the number of cores; as the map's loss is a
        mean by weights, that is not to the bit the loss of the whole, which a GPU learns.
        """
        batch = with_truths_by(Batch(*(part.to(self.device) for part in batch)), self.structure)
        first, last = self._span(self.stage)
        peak = PEAKS[self.stage - 1] * self.recipe.peak
        for group in self.optimiser.param_groups:
            group["lr"] = group["share"] * one_cycle(self.step - first, last - first, peak)
        learning = [p for p in self.network.parameters() if p.requires_grad]
        found: list[Terms] = []

        def loss_of(*half: Tensor) -> Tensor:
            some, share = Batch(*half), len(half[0]) / len(batch.clean)
            anchors = self.scorer.anchors(some.clean)
            terms = terms_of(self.network, some, anchors, self.stage, self.map_loss)
            found.append(Terms(*(share * term.detach() for term in terms)))
            return share * terms.loss

        with torch.enable_grad():
            learn_from(loss_of, learning, *batch)
        terms = Terms(*(torch.stack(parts).sum() for parts in zip(*found, strict=True)))
        nn.utils.clip_grad_norm_(learning, LARGEST)
        self.optimiser.step()
        self.step += 1
        if self.step == last:
            self.done.append(like(self.network.state_dict(), self.network.gate).to(self.device))
            if self.stage <= STAGES:
                self._begin(self.network)
        return terms

    def batch(self, step: int) -> Batch:
        """The samples of an iteration."""
        count = self.recipe.batch
        return draw_batch(self.material, self.seed, step * count, count, self.recipe.side)

    def state_dict(self) -> dict[str, Any]:
        """Everything that an exact resume needs beside the material."""
        return {
            "step": self.step,
            "iterations": self.iterations,
            "done": [network.state_dict() for network in self.done],
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, in a fit of the same material, size, seed and derainers."""
        self.step, self.iterations = int(state["step"]), int(state["iterations"])
        gate = self.network.gate
        self.done = [like(part, gate).to(self.device) for part in state["done"]]
        self.network.load_state_dict(state["network"])
        self._begin(self.network)
        self.optimiser.load_state_dict(state["optimiser"])

    def _begin(self, network: ScoreNet) -> None:
        """Begin a stage from a network."""
        self.network = network.train()
        self.optimiser = torch.optim.AdamW(network.groups(self.recipe.peak), weight_decay=WEIGHT_DECAY)

    def _span(self, stage: int) -> tuple[int, int]:
        """First iteration of a stage, and the one after its last."""
        ends = [0, *(round(sum(SHARES[:n]) * self.iterations) for n in (1, 2)), self.iterations]
        return ends[stage - 1], ends[stage]

    def _batches(self) -> Iterator[Batch]:
        steps = range(self.step, self.iterations)
        if not self.workers:
            return map(Prefetch(self.batch), steps)
        own = torch.Generator()  # else the loader draws from the global one
        loader: Any = DataLoader(
            _Samples(self), batch_size=None, sampler=steps, num_workers=self.workers, generator=own, prefetch_factor=4
        )
        return iter(loader)


class _Samples(Dataset[Batch]):
    """The batches of a fit by step, for the processes that make them."""

    def __init__(self, fit: Fit) -> None:
        self.material, self.seed, self.recipe, self.length = fit.material, fit.seed, fit.recipe, fit.iterations

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, step: int) -> Batch:
        torch.set_num_threads(1)
        return draw_batch(self.material, self.seed, step * self.recipe.batch, self.recipe.batch, self.recipe.side)


def one_cycle(step: int, steps: int, peak: float) -> float:
    """The learning rate of iteration `step` of `steps`: up along a cosine, then down along another."""
    up = max(round(WARM_UP * steps), 1)
    if step < up:
        return peak * _cosine(FIRST, 1.0, (step + 1) / up)
    return peak * _cosine(1.0, LAST, (step - up + 1) / max(steps - up, 1))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


def hold_apart(count: int) -> tuple[list[int], list[int]]:
    """Places of images to fit with and, every tenth, at least one, to measure with."""
    measured = list(range(min(4, count - 1), count, 10))
    return [i for i in range(count) if i not in measured], measured


def auc(predicted: Tensor, positive: Tensor) -> float:
    """Area under the ROC curve: how often a positive is above a negative, ties by half; NaN where one is missing.

    Args:
        predicted: any numbers, any shape.
        positive: which of them should be high, bool, same shape.
    """
    values, positive = predicted.flatten().double(), positive.flatten()
    many, few = int(positive.sum()), int((~positive).sum())
    if not many or not few:
        return math.nan
    _, which, counts = torch.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    ranks = (ends - (counts - 1) / 2)[which]  # of ties their mean
    return float((ranks[positive].sum() - many * (many + 1) / 2) / (many * few))
