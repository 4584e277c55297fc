"""The weights of types of rain in a run: measured on held-out pairs, a function of all losses so far."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ..config import Config
from ..config.rain_types import UNKNOWN
from ..data import to_batch
from ..data.pairs import KINDS, MOST_HELD_OUT, PairSet, middle_of
from ..data.sampler import evenly
from ..methods.reweighting import type_weights
from ..networks import evaluating
from ..system.distributed import Ranks

AT_ONCE = 8  # crops that the network gets


class TypeWeights:
    """Losses of each type on held-out pairs, and the weights that follow.

    Args:
        config: the run.
        pairs: its labelled pairs. Types of which none is held out keep weight 1, as unknown ones do.
        ranks: the processes that measure, each its share.
        notices: gets what people should know of the form.
    """

    def __init__(self, config: Config, pairs: PairSet, ranks: Ranks, notices: list[str] | None = None) -> None:
        if notices is not None and config.reweight.form == "printed":
            notices.append("reweight.form printed is there to compare: it may weigh most what gets worse")
        self.config, self.pairs, self.ranks = config, pairs, ranks
        held = {pairs.kinds[pair] for pair in pairs.held_out} & set(pairs.by_type)
        self.kinds = sorted(held - {UNKNOWN})
        self.measured = _few_of_each(pairs, self.kinds)
        self.losses: list[list[float]] = []  # an evaluation a row, a type a column
        self._known: tuple[int, dict[int, float]] = 0, {}  # weights after so many of them

    @property
    def by_type(self) -> dict[int, float]:
        """The present weights by the types' places."""
        if self._known[0] != len(self.losses):  # every iteration asks, and after 300 evaluations it takes 9 ms
            options = self.config.reweight
            weights = type_weights(np.array(self.losses), options.form, options.window, options.floor, options.average)
            self._known = len(self.losses), dict(zip(self.kinds, weights.tolist(), strict=True))
        return self._known[1]

    def due(self, step: int) -> bool:
        """Whether types are measured before the iteration that comes after `step` others."""
        wanted = self.config.reweight.form != "off" and len(self.kinds) > 1
        return wanted and step > 0 and step % self.config.reweight.every == 0

    def measure(self, derainer: nn.Module) -> dict[str, float]:
        """Note each type's mean absolute error on the middle of held-out pairs; every rank must ask.

        Returns:
            The losses and the new weights, for the log.
        """
        own = self.measured[self.ranks.rank :: self.ranks.count]
        found = dict(kv for some in self.ranks.all_gather(self._errors(derainer, own)) for kv in some.items())
        row = []
        for kind in self.kinds:
            errors = [found[pair] for pair in self.measured if self.pairs.kinds[pair] == kind]
            row.append(sum(errors) / len(errors))
        self.losses.append(row)
        figures = {f"loss_{KINDS[kind]}": loss for kind, loss in zip(self.kinds, row, strict=True)}
        return figures | {f"weight_{KINDS[kind]}": weight for kind, weight in self.by_type.items()}

    @torch.no_grad()
    def _errors(self, derainer: nn.Module, own: list[int]) -> dict[int, float]:
        errors: dict[int, float] = {}
        side = self.config.crop
        with evaluating(derainer) as network:
            device = next(network.parameters()).device
            for first in range(0, len(own), AT_ONCE):
                some = own[first : first + AT_ONCE]
                rainy, clean = ([self._middle(pair, place, side) for pair in some] for place in (0, 1))
                sizes = {image.shape for image in rainy}
                groups = [range(len(some))] if len(sizes) == 1 else [[i] for i in range(len(some))]
                for group in groups:
                    wet, dry = (torch.cat([to_batch(side_[i]) for i in group]).to(device) for side_ in (rainy, clean))
                    error = (network(wet).float() - dry).abs().mean((1, 2, 3)).tolist()
                    errors |= {some[i]: value for i, value in zip(group, error, strict=True)}
        return errors

    def _middle(self, pair: int, place: int, side: int) -> np.ndarray:
        images = (self.pairs.rainy, self.pairs.clean)[place]
        return np.ascontiguousarray(middle_of(images[self.pairs.places[pair][place]], side))

    def state_dict(self) -> dict[str, Any]:
        """The losses so far, by the names of their types."""
        return {"types": [KINDS[kind] for kind in self.kinds], "losses": self.losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: they are of other types.
        """
        if state["types"] != [KINDS[kind] for kind in self.kinds]:
            raise ValueError(f"losses of {', '.join(state['types'])}")
        self.losses = [[float(loss) for loss in row] for row in state["losses"]]
        self._known = 0, {}


def _few_of_each(pairs: PairSet, kinds: list[int]) -> list[int]:
    """Of each type at most 64 held-out pairs, evenly spread: a scene may hold hundreds."""
    found: list[int] = []
    for kind in kinds:
        own = [pair for pair in pairs.held_out if pairs.kinds[pair] == kind]
        found += [own[i] for i in evenly(len(own), MOST_HELD_OUT)]
    return sorted(found)
