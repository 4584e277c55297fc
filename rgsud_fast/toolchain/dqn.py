"""Deep Q learning with a memory: targets from the next stored state, and the loss of a batch of episodes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..networks.toolbox import Agent
from ..networks.toolbox.agent import NONE
from .replay import Batch


def dqn_loss(agent: Agent, target: Agent, batch: Batch, discount: float, double: bool = True) -> Tensor:
    """Huber loss of the worth of the actions taken.

    Both networks are unrolled from a memory of zeros. An episode counts the mean over its steps, and the batch the mean
    over its episodes: groups of one length, weighted by their share.

    Args:
        agent: learns.
        target: an older copy, which values what comes next. No gradient.
        batch: episodes.
        discount: of what comes a step later.
        double: the agent chooses the next action and `target` values it (van Hasselt et al., AAAI 2016); otherwise
            `target` does both.

    Returns:
        A scalar.
    """
    worth, _ = agent(batch.states, batch.previous)
    with torch.no_grad():
        later, _ = target(batch.states, batch.previous)
        aims = targets(later, worth.detach() if double else later, batch, discount)
    there = batch.actions != NONE
    taken = worth.gather(2, batch.actions.clamp_min(0)[..., None])[..., 0]
    losses = torch.where(there, F.smooth_l1_loss(taken, aims, reduction="none"), 0)
    return (losses.sum(1) / batch.lengths).mean()


def offers_loss(agent: Agent, batch: Batch) -> Tensor:
    """Huber loss of the squeezed gain of every action at once, whichever was taken. Nothing is bootstrapped.

    Greedy chains are as good as the best of all (`toolchain.oracles`), so what comes later need not be learned; and the
    worth of a tool that was never taken in such a state, which Q learning makes up, is known here.

    Args:
        agent: learns, unrolled from a memory of zeros.
        batch: episodes, with what every tool gains at each state; a stop gains nothing.

    Returns:
        A scalar: the mean over actions, over the steps of an episode, and over episodes.
    """
    worth, _ = agent(batch.states, batch.previous)
    losses = F.smooth_l1_loss(squeeze(worth), squeeze(F.pad(batch.offers, (0, 1))), reduction="none").mean(2)
    return (torch.where(batch.actions != NONE, losses, 0).sum(1) / batch.lengths).mean()


def squeeze(decibels: Tensor) -> Tensor:
    """sign(x) log(1 + |x|): what decides between tools is tenths of a decibel, one that brightens day costs ten."""
    return decibels.sign() * decibels.abs().log1p()


def targets(valued: Tensor, choosing: Tensor, batch: Batch, discount: float) -> Tensor:
    """r + discount * Q of the next stored state, [N, T]; r alone for the last step, however the episode ended.

    Args:
        valued: Q of the stored states by the target network, [N, T, A + 1].
        choosing: Q of the same by the network that chooses the next action.
        batch: episodes.
        discount: of what comes a step later.
    """
    best = choosing.argmax(2, keepdim=True)
    following = valued.gather(2, best)[..., 0][:, 1:]  # of the state that an action led to
    goes_on = batch.actions[:, 1:] != NONE
    return batch.rewards + discount * F.pad(torch.where(goes_on, following, 0), (0, 1))


def falling_share(step: int, after: int, over: int, last: float) -> float:
    """The share of random actions at an environment step: 1 until `after`, then evenly down to `last`."""
    return 1 - (1 - last) * min(max(step - after, 0) / over, 1)


def falling_rate(step: int, total: int, first: float, last: float, halve_every: int) -> float:
    """The learning rate at an environment step: halved every so often, not below `last`; or evenly in logarithms."""
    if halve_every:
        return max(first * 0.5 ** (step // halve_every), last)
    return first * (last / first) ** min(step / total, 1)
