"""What was played, to learn from it again: rows of an episode each, in a ring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..networks.toolbox.agent import NONE
from .environment import Round

GIB = 2**30
Remake: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # numbers [N], actions [N, T] -> states [N, T, 3, S, S] float16


class Batch(NamedTuple):
    """Episodes to learn from; see `Round`."""

    states: Tensor  # [N, T, 3, S, S] float32
    actions: Tensor  # [N, T] int64
    rewards: Tensor  # [N, T] float32
    offers: Tensor  # [N, T, A] float32, or [N, T, 0]

    @property
    def previous(self) -> Tensor:
        """The action before each step, [N, T]; `NONE` before the first."""
        return torch.cat([torch.full_like(self.actions[:, :1], NONE), self.actions[:, :-1]], 1)

    @property
    def lengths(self) -> Tensor:
        """Steps of each episode, [N]."""
        return (self.actions != NONE).sum(1)


class Replay:
    """A ring of episodes.

    Args:
        rows: how many it holds, rounded up to whole rounds.
        parallel: episodes of a round.
        steps: most of an episode.
        side: of its images.
        remake: plays episodes again for their images.
        gib: most memory for images as float16, which keep what tools push out of [0, 1]; where they need more none is
            held, and what is drawn is made anew.
        device: where images are held.
        tools: how many there are, where what each would have gained is kept; 0: it is not.
    """

    def __init__(
        self,
        rows: int,
        parallel: int,
        steps: int,
        side: int,
        remake: Remake,
        gib: float,
        device: torch.device,
        tools: int = 0,
    ) -> None:
        self.rows, self.parallel, self._remake = -(-rows // parallel) * parallel, parallel, remake
        self.numbers = torch.zeros(self.rows, dtype=torch.int64)
        self.actions = torch.full((self.rows, steps), NONE)
        self.rewards = torch.zeros(self.rows, steps)
        self.offers = torch.zeros(self.rows, steps, tools)
        self.added = 0  # episodes, since the beginning
        shape = (self.rows, steps, 3, side, side)
        held = int(np.prod(shape)) * 2 <= gib * GIB
        self.states = torch.zeros(shape, dtype=torch.float16, device=device) if held else None
        self.device = device

    def __len__(self) -> int:
        return min(self.added, self.rows)

    def add(self, numbers: Tensor, played: Round) -> None:
        """Take a round in, in place of the oldest one."""
        at = self.added % self.rows
        rows = slice(at, at + self.parallel)
        self.numbers[rows] = numbers
        for name in ("actions", "rewards", "offers"):
            getattr(self, name)[rows] = getattr(played, name).cpu()
        if self.states is not None:
            self.states[rows] = played.states
        self.added += self.parallel

    def sample(self, count: int, rng: np.random.Generator) -> Batch:
        """Draw episodes, each as likely as any other."""
        rows = torch.from_numpy(rng.integers(len(self), size=count))
        actions = self.actions[rows]
        if self.states is not None:
            states = self.states[rows.to(self.device)]
        else:
            states = self._remake(self.numbers[rows], actions)
        given = (values.to(self.device) for values in (actions, self.rewards[rows], self.offers[rows]))
        return Batch(states.float(), *given)

    def state_dict(self) -> dict[str, Any]:
        """Everything but images, which numbers and actions give again."""
        held = {"numbers": self.numbers, "actions": self.actions.to(torch.int8), "rewards": self.rewards}
        held |= {"offers": self.offers} if self.offers.shape[2] else {}
        return {"added": self.added, **{name: value[: len(self)].clone() for name, value in held.items()}}

    def load_state_dict(self, saved: dict[str, Any], watch: Callable[[int, int], None] | None = None) -> None:
        """Take a state back, and play its rounds again, one by one as they were, for the same bits."""
        self.added = saved["added"]
        for name in ("numbers", "actions", "rewards", *(("offers",) if self.offers.shape[2] else ())):
            getattr(self, name)[: len(self)] = saved[name].to(getattr(self, name).dtype)
        if self.states is None:
            return
        for start in range(0, len(self), self.parallel):
            rows = slice(start, start + self.parallel)
            self.states[rows] = self._remake(self.numbers[rows], self.actions[rows])
            if watch is not None:
                watch(min(start + self.parallel, len(self)), len(self))
