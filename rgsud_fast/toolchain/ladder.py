"""The ladder: an agent beside everything that it has to beat, on the same held-out episodes for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..networks.toolbox import Agent
from ..networks.toolbox.agent import NONE
from ..system.side_by_side import side_by_side
from ..system.watch import Watch, nobody
from .environment import Round, decibels, join_rounds, play
from .oracles import Search, fixed_chain, greedy_oracle, in_parts, parts_of, random_chains, search

# By the names of figures: what people read.
LADDER = {
    "nothing": "nothing",
    "random": "random chain",
    "single": "best single tool",
    "fixed": "best fixed chain",
    "agent": "agent",
    "greedy": "greedy oracle with stop",
    "agent_searched": "agent, on the searched ones",
    "searched": "full search of all chains, on few",
    "agent_joint": "agent after joint tuning",
    "greedy_joint": "greedy oracle after joint tuning",
}


class Rivals(NamedTuple):
    """Chains chosen beforehand on training photographs: the best single tool and the best chain, by their places."""

    single: tuple[int, ...]
    fixed: tuple[int, ...]


def rivals_of(tools: Sequence[nn.Module], damaged: Tensor, clean: Tensor, steps: int, watch: Watch = nobody) -> Rivals:
    """The rivals, found by trying all chains on patches of training photographs."""
    found: Search = search(tools, damaged, clean, steps, watch)
    return Rivals(found.best(1), found.best(steps))


def ladder(
    agent: Agent,
    tools: Sequence[nn.Module],
    rivals: Rivals,
    damaged: Tensor,
    clean: Tensor,
    *,
    seed: int,
    steps: int = 3,
    searched: int = 0,
    watch: Watch = nobody,
) -> dict[str, Any]:
    """Mean decibels gained over the input.

    Args:
        agent: its choice.
        tools: of the actions.
        rivals: chains that were chosen on other photographs.
        damaged, clean: held-out episodes, [N, 3, S, S].
        seed: of the random chains.
        steps: most tools of a chain.
        searched: on how many of them all chains are tried; 0 leaves it out.
        watch: told how far the search is.

    Returns:
        The figures of `LADDER`, the input's PSNR, how often each action was taken at each step, and the share of stops
        among third actions.
    """
    played = play_all(agent, tools, damaged, clean, steps)
    gains = played.rewards.sum(1)
    figures: dict[str, Any] = {
        "input_psnr": float(decibels(damaged, clean).mean()),
        "nothing": 0.0,
        "random": _mean(random_chains(tools, damaged, clean, seed, steps)),
        "single": _mean(in_parts(lambda d, c: fixed_chain(tools, rivals.single, d, c), damaged, clean)),
        "fixed": _mean(in_parts(lambda d, c: fixed_chain(tools, rivals.fixed, d, c), damaged, clean)),
        "agent": _mean(gains),
        "greedy": _mean(in_parts(lambda d, c: greedy_oracle(tools, d, c, steps), damaged, clean)),
    }
    if few := min(searched, len(damaged)):
        figures["agent_searched"] = _mean(gains[:few])
        figures["searched"] = _mean(search(tools, damaged[:few], clean[:few], steps, watch).full())
    return figures | actions_of(played, agent)


def actions_of(played: Round, agent: Agent) -> dict[str, Any]:
    """How often each action was taken, by step, and the share of third actions that stop (or had stopped before)."""
    actions = played.actions.cpu()
    counts = [Counter(column[column != NONE].tolist()) for column in actions.unbind(1)]
    shown = [[count.get(action, 0) for action in range(agent.tools + 1)] for count in counts]
    last = actions[:, -1]
    return {"actions": shown, "stops": float(((last == agent.stop) | (last == NONE)).float().mean())}


@torch.no_grad()
def play_all(agent: Agent, tools: Sequence[nn.Module], damaged: Tensor, clean: Tensor, steps: int) -> Round:
    """As `play`, some at a time."""
    return join_rounds(side_by_side(lambda part: play(agent, tools, part[0], part[1], steps), parts_of(damaged, clean)))


def _mean(gains: Tensor) -> float:
    return float(gains.mean())
