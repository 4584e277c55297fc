"""Chains that know the truth, or nothing: what an agent is measured against."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..system.side_by_side import side_by_side
from ..system.watch import Watch, nobody
from .environment import apply_tools, decibels
from .episodes import generator

PART, PART_ON_GPU = 24, 64  # images that are measured at once


class Search(NamedTuple):
    """Every chain on every image, in decibels gained over the input."""

    chains: list[tuple[int, ...]]  # of 1 to `steps` tools, first those of one
    gains: Tensor  # [chains, N]

    def best(self, longest: int) -> tuple[int, ...]:
        """The chain of at most so many tools with the highest mean; () where none gains."""
        means = self.gains.mean(1).tolist()
        allowed = [(mean, chain) for mean, chain in zip(means, self.chains, strict=True) if len(chain) <= longest]
        mean, chain = max(allowed)
        return chain if mean > 0 else ()

    def full(self) -> Tensor:
        """For each image what its own best chain gains, [N]; that of doing nothing where it is the best."""
        return self.gains.amax(0).clamp_min(0)


@torch.no_grad()
def search(tools: Sequence[nn.Module], damaged: Tensor, clean: Tensor, steps: int = 3, watch: Watch = nobody) -> Search:
    """Try all A + A^2 + A^3 chains.

    Args:
        tools: networks [N, 3, S, S] -> the same.
        damaged, clean: [N, 3, S, S].
        steps: most tools of a chain.
        watch: told how many chains are done.
    """
    first, total = decibels(damaged, clean), sum(len(tools) ** k for k in range(1, steps + 1))
    found: dict[tuple[int, ...], Tensor] = {}
    one_at_a_time = threading.Lock()

    def descend(images: Tensor, chain: tuple[int, ...]) -> None:
        after = tools[chain[-1]](images)
        gains = decibels(after, clean) - first
        with one_at_a_time:
            found[chain] = gains
            watch(len(found), total)
        if len(chain) < steps:
            for place in range(len(tools)):
                descend(after, (*chain, place))

    side_by_side(lambda place: descend(damaged, (place,)), range(len(tools)))
    chains = sorted(found, key=lambda chain: (len(chain), chain))
    return Search(chains, torch.stack([found[chain] for chain in chains]))


@torch.no_grad()
def greedy_oracle(tools: Sequence[nn.Module], damaged: Tensor, clean: Tensor, steps: int = 3) -> Tensor:
    """What is gained by always taking the tool that helps most now, and stopping where none does, [N]."""
    first = level = decibels(damaged, clean)
    images = damaged
    for _ in range(steps):
        tried = [tool(images) for tool in tools]
        reached = torch.stack([decibels(image, clean) for image in tried])  # [A, N]
        best, place = reached.max(0)
        helps = best > level
        if not bool(helps.any()):
            break
        picked = torch.stack(tried)[place, torch.arange(len(images), device=images.device)]
        images = torch.where(helps[:, None, None, None], picked, images)
        level = torch.maximum(level, best)
    return level - first


@torch.no_grad()
def random_chains(tools: Sequence[nn.Module], damaged: Tensor, clean: Tensor, seed: int, steps: int = 3) -> Tensor:
    """What three tools drawn for each image gain, [N]."""
    drawn = generator(seed, 12, 0).integers(len(tools), size=(len(damaged), steps))
    return in_parts(functools.partial(_gains, tools), damaged, clean, torch.from_numpy(drawn).to(damaged.device))


def _gains(tools: Sequence[nn.Module], damaged: Tensor, clean: Tensor, actions: Tensor) -> Tensor:
    """What a chain of each image's own, [N, T], gains, [N]."""
    images = damaged
    for step in range(actions.shape[1]):
        images = apply_tools(tools, images, actions[:, step])
    return decibels(images, clean) - decibels(damaged, clean)


@torch.no_grad()
def fixed_chain(tools: Sequence[nn.Module], chain: Sequence[int], damaged: Tensor, clean: Tensor) -> Tensor:
    """What one chain gains on each image, [N]."""
    images = damaged
    for place in chain:
        images = tools[place](images)
    return decibels(images, clean) - decibels(damaged, clean)


def forward_selection(
    tools: Sequence[nn.Module], damaged: Tensor, clean: Tensor, steps: int = 3
) -> list[tuple[int, float]]:
    """The tools in the order in which they earn their place: (tool, mean gain of the greedy oracle with it and those
    before it).

    What is lost when one is left out says little: of two that do the same neither is missed.
    """
    chosen: list[int] = []
    order = []
    while len(chosen) < len(tools):
        gains = {
            place: float(greedy_oracle([tools[i] for i in (*chosen, place)], damaged, clean, steps).mean())
            for place in range(len(tools))
            if place not in chosen
        }
        best = max(gains, key=lambda place: gains[place])
        chosen.append(best)
        order.append((best, gains[best]))
    return order


def in_parts(measure: Callable[..., Tensor], *images: Tensor) -> Tensor:
    """A measure of images, and of what belongs to each, [N, ...] each, taken of some at a time."""
    return torch.cat(side_by_side(lambda part: measure(*part), parts_of(*images)))


def parts_of(*images: Tensor) -> list[tuple[Tensor, ...]]:
    """Some images at a time, and what belongs to them."""
    most = PART if images[0].is_cpu else PART_ON_GPU
    return [*zip(*(tensor.split(most) for tensor in images), strict=True)]
