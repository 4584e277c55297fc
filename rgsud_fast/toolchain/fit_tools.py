"""The first phase: each tool by itself, on damage of its own band."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from ..networks.toolbox import Tool
from ..networks.toolbox.box import save_tool
from ..optim.adam import set_rate
from ..system.prefetch import Prefetch, by_batches
from ..system.side_by_side import learn_from
from ..system.watch import Watch, nobody
from .environment import decibels, errors
from .phase import Phase, copy_state
from .workshop import LATER, Workshop

WARM_UP = 0.1  # share of a cycle in which Adam's rate rises
MATRIX_PATCHES = 48  # per band


class FitTools(Phase):
    """Train the tools one after another; those that are given are left as they are."""

    name = "tools"

    def __init__(self, workshop: Workshop) -> None:
        super().__init__(workshop)
        self.places = [i for i, tool in enumerate(self.config.tools) if tool.damage != "given"]
        self.total = len(self.places) * self.config.fit.steps
        self.turn = 0  # which of `places`
        self.gains: dict[str, float] = {}  # by name
        if self.places:
            self._begin()

    @property
    def done(self) -> int:  # type: ignore[override]
        return self.turn * self.config.fit.steps + (self.step if self.turn < len(self.places) else 0)

    def _begin(self) -> None:
        """A new tool."""
        fit, self.step = self.config.fit, 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed * 1000 + self.places[self.turn])
            tool = Tool(self.config.tools[self.places[self.turn]].net)
        self.tool = self.workshop.to_device(tool)
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.Adam(self.tool.parameters(), fit.learning_rate)
            if fit.optimizer == "adam"
            else torch.optim.SGD(self.tool.parameters(), fit.learning_rate, momentum=0.9, weight_decay=1e-4)
        )
        self.best, self.weights, self.misses = -math.inf, copy_state(self.tool), 0
        make = functools.partial(self.workshop.lessons, self.places[self.turn])
        self._patches = Prefetch(by_batches(make, fit.batch))

    def advance(self) -> dict[str, Any]:
        """One step of the present tool, and at times a look at patches that it does not train on."""
        fit, place = self.config.fit, self.places[self.turn]
        tool = self.config.tools[place]
        damaged, clean = self.workshop.on_device(self._patches(self.step))

        def loss_of(some: Tensor, truth: Tensor) -> Tensor:
            return errors(self.tool(some), truth, fit.loss).sum() / len(damaged)

        loss = learn_from(loss_of, [*self.tool.parameters()], damaged, clean)
        self.demand_finite(loss, f"tool {tool.name}")
        if fit.clip_norm:
            clip_grad_norm_(self.tool.parameters(), fit.clip_norm)
        set_rate(self.optimizer, self._rate())
        self.optimizer.step()
        self.step += 1
        if self.step % fit.look_every and self.step < fit.steps:
            return {}
        gain = self._look(place)
        self.misses = 0 if gain > self.best + fit.least_gain else self.misses + 1
        if gain > self.best:
            self.best, self.weights = gain, copy_state(self.tool)
        row = {f"gain_{tool.name}": gain}
        tired = self.misses >= fit.patience and fit.optimizer == "sgd"  # one cycle gains most at its end
        if self.step >= fit.steps or tired:
            self._end(place)
        return row

    def _rate(self) -> float:
        fit = self.config.fit
        if fit.optimizer == "sgd":
            return fit.learning_rate * 0.1 ** (self.step // fit.decay_every)
        return one_cycle(self.step / fit.steps, fit.learning_rate)

    def _look(self, place: int) -> float:
        numbers = range(LATER, LATER + self.config.fit.look_patches)  # held-out photographs choose nothing
        return gain_of(self.tool, *self.workshop.patches(place, numbers))

    def _end(self, place: int) -> None:
        """Keep the best weights, and go to the next tool."""
        tool = self.config.tools[place]
        self.tool.load_state_dict(self.weights)
        save_tool(self.workshop.tool_path(tool), self.tool)
        self.gains[tool.name] = self.best
        self.turn += 1
        if self.turn < len(self.places):
            self._begin()

    def finish(self) -> None:
        """Tell what each tool gained in its own band."""
        self.workshop.results["own_band"] = self.gains

    def state_dict(self) -> dict[str, Any]:
        """See `Phase`."""
        state: dict[str, Any] = {"turn": self.turn, "gains": dict(self.gains)}
        if self.turn < len(self.places):
            state |= {"step": self.step, "best": self.best, "misses": self.misses, "weights": self.weights}
            state |= {"tool": copy_state(self.tool), "optimizer": self.optimizer.state_dict()}
        return state

    def load_state_dict(self, saved: dict[str, Any], watch: Watch = nobody) -> None:
        """See `Phase`."""
        self.turn, self.gains = saved["turn"], dict(saved["gains"])
        if self.turn < len(self.places):
            self._begin()
            self.step, self.best, self.misses = (saved[name] for name in ("step", "best", "misses"))
            self.weights = {name: value.to(self.workshop.device) for name, value in saved["weights"].items()}
            self.tool.load_state_dict(saved["tool"])
            self.optimizer.load_state_dict(saved["optimizer"])


def one_cycle(share: float, largest: float) -> float:
    """The learning rate after that share of a training: it rises over the first tenth, and falls to 0 as a cosine."""
    if share < WARM_UP:
        return largest * (0.04 + 0.96 * share / WARM_UP)
    return largest * 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))


@torch.no_grad()
def gain_of(tool: nn.Module, damaged: Tensor, clean: Tensor) -> float:
    """Mean decibels that a tool gains on patches [N, 3, S, S]."""
    return float((decibels(tool(damaged), clean) - decibels(damaged, clean)).mean())


def gain_matrix(workshop: Workshop, tools: list[nn.Module]) -> dict[str, dict[str, float]]:
    """Mean decibels of each tool, by name, on held-out patches of each band, by the name of the band's tool.

    Tools alone mislead (deblurring raises noise that another tool takes away): what counts are chains.
    """
    matrix: dict[str, dict[str, float]] = {name: {} for name in workshop.names}
    for place, band in enumerate(workshop.config.tools):
        if band.damage == "given":
            continue
        pairs = workshop.patches(place, range(MATRIX_PATCHES), held_out=True)
        for name, tool in zip(workshop.names, tools, strict=True):
            matrix[name][band.name] = gain_of(tool, *pairs)
    return matrix
