"""Many episodes side by side: what actions make of their images, and what that is worth in decibels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from ..config.toolbox import Loss
from ..networks.toolbox import Agent
from ..networks.toolbox.agent import NONE, Hidden
from .episodes import LEAST

# Which actions to take: (worth of each [N, A + 1], step) -> [N] int64.
Decide: TypeAlias = Callable[[Tensor, int], Tensor]
SOFT = 1e-3  # a mean squared error of 30 dB; of 1e-6 a tool learns to leave everything as it is


class Round(NamedTuple):
    """Episodes that were played side by side, N of at most T steps each. What lies behind an end is 0, or `NONE`."""

    states: Tensor  # what the agent saw before each action, [N, T, 3, S, S] float16
    actions: Tensor  # [N, T] int64
    rewards: Tensor  # decibels gained, [N, T]
    worth: Tensor  # Q, [N, T, A + 1]
    final: Tensor  # [N, 3, S, S]
    offers: Tensor  # decibels that every tool would have gained at each state, [N, T, A]; [N, T, 0] if none was tried

    @property
    def lengths(self) -> Tensor:
        """Actions of each episode, a stop among them, [N]."""
        return (self.actions != NONE).sum(1)


def apply_tools(tools: Sequence[nn.Module], images: Tensor, actions: Tensor) -> Tensor:
    """Apply to each image its own tool, one call per tool; a stop and `NONE` leave it. Differentiable.

    Args:
        tools: networks [n, 3, S, S] -> the same.
        images: [N, 3, S, S].
        actions: [N] int64.
    """
    for place, tool in enumerate(tools):
        chosen = (actions == place).nonzero()[:, 0]
        if len(chosen):
            images = images.index_copy(0, chosen, tool(images[chosen]))
    return images


def decibels(images: Tensor, clean: Tensor) -> Tensor:
    """PSNR of each image [N, 3, S, S], as it is: neither clipped nor rounded, as tools see it. [N] float32."""
    return -10 * ((images - clean).square().mean((1, 2, 3)) + LEAST).log10()


def errors(images: Tensor, clean: Tensor, loss: Loss) -> Tensor:
    """What tools minimise, of each image [N, 3, S, S]: [N]; differentiable.

    mse is the paper's. By its mean the worst images decide, and a tool for blur from none to weak harms the sharp ones.
    decibels is log(mse + `SOFT`): each counts by how many decibels it can gain, nearly clean ones less.
    """
    squared = (images - clean).square().mean((1, 2, 3))
    return squared if loss == "mse" else (squared + SOFT).log()


def greedy(worth: Tensor, step: int) -> Tensor:
    """The action of the highest worth."""
    return worth.argmax(1)


@torch.no_grad()
def play(
    agent: Agent,
    tools: Sequence[nn.Module],
    damaged: Tensor,
    clean: Tensor,
    steps: int = 3,
    decide: Decide = greedy,
    ends_below: bool = False,
    every_tool: bool = False,
    differentiable: bool = False,
) -> Round:
    """Let an agent repair patches, each from a memory of zeros.

    A step is worth the decibels gained, a stop 0; an episode ends with a stop or its last step.

    Args:
        agent: its Q network.
        tools: of the actions.
        damaged, clean: [N, 3, S, S].
        steps: most of an episode.
        decide: which action to take.
        ends_below: an episode ends as well where an image falls below its input, as in training.
        every_tool: try all tools at each state, for `Round.offers`.
        differentiable: `Round.final` can be followed back through the chains, to the tools; the choice cannot.
    """
    count, running = len(damaged), torch.ones(len(damaged), dtype=torch.bool, device=damaged.device)
    states = damaged.new_zeros((count, steps, *damaged.shape[1:]), dtype=torch.float16)
    actions = torch.full((count, steps), NONE, device=damaged.device)
    rewards, worths = damaged.new_zeros(count, steps), damaged.new_zeros(count, steps, agent.tools + 1)
    first = level = decibels(damaged, clean)
    images, previous = damaged, torch.full((count,), NONE, device=damaged.device)
    hidden: Hidden | None = None
    offers = damaged.new_zeros(count, steps, agent.tools if every_tool else 0)
    for step in range(steps):
        seen = images.half()  # the agent acts on what the replay holds
        worth, hidden = agent(seen.float()[:, None], previous[:, None], hidden)
        action = torch.where(running, decide(worth[:, 0], step), NONE)
        states[running, step], worths[running, step] = seen[running], worth[running, 0]
        actions[:, step] = action
        if every_tool:
            offers[running, step] = _offers(tools, images[running], clean[running]) - level[running, None]
        with torch.set_grad_enabled(differentiable):
            images = apply_tools(tools, images, action)
        reached = decibels(images, clean)
        used = running & (action != agent.stop)
        rewards[:, step] = torch.where(used, reached - level, 0)
        level = torch.where(used, reached, level)
        running = used & ~((level < first) & ends_below)
        previous = torch.where(used, action, NONE)
        if not bool(running.any()):
            break
    return Round(states, actions, rewards, worths, images, offers)


def join_rounds(rounds: Sequence[Round]) -> Round:
    """Rounds of the same agent as one."""
    return Round(*(torch.cat(values) for values in zip(*rounds, strict=True)))


def _offers(tools: Sequence[nn.Module], images: Tensor, clean: Tensor) -> Tensor:
    """PSNR after each tool, [N, A]."""
    return torch.stack([decibels(tool(images), clean) for tool in tools], 1)


@torch.no_grad()
def states_of(tools: Sequence[nn.Module], damaged: Tensor, actions: Tensor) -> Tensor:
    """The states of a round that is played again by its actions, [N, T] -> [N, T, 3, S, S] float16; the same bits."""
    states = damaged.new_zeros((len(damaged), actions.shape[1], *damaged.shape[1:]), dtype=torch.float16)
    images = damaged
    for step in range(actions.shape[1]):
        there = actions[:, step] != NONE
        states[there, step] = images.half()[there]
        images = apply_tools(tools, images, actions[:, step])
    return states
