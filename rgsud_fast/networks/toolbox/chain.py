"""A chain of tools that an agent chooses for each photograph, as one module that keeps the shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...config.toolbox import STOP
from ...errors import UserError
from .._common import check_image
from ..tiles import Read, window_of
from .agent import NONE, Agent, Hidden
from .tools import REACH

MOST_TILES = 256  # that vote; of larger photographs they are spread evenly
AT_ONCE = 32  # tiles that a tool gets at once


class Step(NamedTuple):
    """What the agent thought at one step. By name of an action, `stop` among them."""

    action: str  # that won
    worth: dict[str, float]  # Q, mean over the tiles
    votes: dict[str, int]  # tiles for which it was the best one


class Choice(NamedTuple):
    """What is to be done with a photograph."""

    tools: list[int]  # in order
    steps: list[Step]  # one more than tools where the agent stopped


class Chain(nn.Module):
    """Tools and the agent that chains them: [N, 3, H, W] -> the same, each image by a chain of its own.

    The agent looks at tiles of its own side, without overlap; each has a memory, and is shown the present state. The
    action of most tiles is done to the whole photograph, of two with equally many that of the higher mean worth, and
    is fed back to all tiles. One that is worth less than a stop to the photograph as a whole is not done, ours: else
    dark tiles have all of a street at dusk brightened.

    Args:
        names: of the tools.
        tools: networks that keep the shape.
        agent: chooses among them.
        steps: most tools of a chain.
    """

    def __init__(self, names: Sequence[str], tools: Sequence[nn.Module], agent: Agent, steps: int = 3) -> None:
        super().__init__()
        if not len(names) == len(tools) == agent.tools:
            raise ValueError(f"{len(names)} names, {len(tools)} tools and an agent of {agent.tools}")
        self.names, self.steps = list(names), steps
        self.tools, self.agent = nn.ModuleList(tools), agent

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 3, H, W], not clipped; sides of at least the agent's.

        Raises:
            UserError: a smaller image.
        """
        check_image(image)
        done = [self.for_photo(window_of(one[None]), *one.shape[-2:])(one[None]) for one in image]
        return torch.cat(done) if done else image

    def for_photo(self, read: Read, height: int, width: int) -> Callable[[Tensor], Tensor]:
        """The chain that a photograph needs, as a network for tiles of it; `read` gives windows of its pixels."""
        return self.applied(self.choose(read, height, width).tools)

    def applied(self, tools: Sequence[int]) -> Callable[[Tensor], Tensor]:
        """Tools one after another as one function, [N, 3, h, w] -> the same."""

        def apply(image: Tensor) -> Tensor:
            for tool in tools:
                image = self.tools[tool](image)
            return image

        return apply

    @torch.no_grad()
    def choose(self, read: Read, height: int, width: int) -> Choice:
        """Let the tiles of a photograph vote on each step, on its present state.

        Only the tiles are held, each with what tools see around it.

        Raises:
            UserError: a photograph smaller than the agent's side.
        """
        side, actions = self.agent.side, [*self.names, STOP]
        check_sides(height, width, side)
        where = next(self.agent.parameters()).device
        tiles, inner = _tiles(read, height, width, side, REACH * (self.steps - 1))
        tiles = tiles.to(where)
        previous = torch.full((len(tiles),), NONE, device=where)
        hidden: Hidden | None = None
        chosen, steps = [], []
        for _ in range(self.steps):
            seen = torch.stack([t[:, y : y + side, x : x + side] for t, (y, x) in zip(tiles, inner, strict=True)])
            worth, hidden = self.agent(seen[:, None], previous[:, None], hidden)
            votes = torch.bincount(worth[:, 0].argmax(1), minlength=len(actions))
            mean = worth[:, 0].mean(0)
            standing = torch.where(mean >= mean[self.agent.stop], votes, -1)  # a stop stands always
            best = int(torch.where(standing == standing.max(), mean, -torch.inf).argmax())
            told = [dict(zip(actions, values.tolist(), strict=True)) for values in (mean, votes)]
            steps.append(Step(actions[best], *told))
            if best == self.agent.stop:
                break
            chosen.append(best)
            tiles = torch.cat([self.tools[best](some) for some in tiles.split(AT_ONCE)])
            previous = torch.full_like(previous, best)
        return Choice(chosen, steps)


def check_sides(height: int, width: int, side: int) -> None:
    """Refuse what is smaller than the agent's eye.

    Raises:
        UserError: it is.
    """
    if min(height, width) < side:
        raise UserError(f"{width} x {height} pixels: the agent of this toolbox needs at least {side} on each side")


def _tiles(read: Read, height: int, width: int, side: int, halo: int) -> tuple[Tensor, list[tuple[int, int]]]:
    """Windows around the tiles that vote, [T, 3, h, w], and where in each its tile begins (row, column).

    At a border of the photograph a window ends with it, so that tools meet the same border; it reaches farther inside.
    """
    places = [(top, left) for top in _grid(height, side) for left in _grid(width, side)]
    count = min(len(places), MOST_TILES)
    places = [places[i * len(places) // count] for i in range(count)]
    high, wide = min(side + 2 * halo, height), min(side + 2 * halo, width)
    windows, inner = [], []
    for top, left in places:
        row, column = min(max(top - halo, 0), height - high), min(max(left - halo, 0), width - wide)
        windows.append(read(row, row + high, column, column + wide))
        inner.append((top - row, left - column))
    return torch.cat(windows), inner


def _grid(length: int, side: int) -> list[int]:
    """Where tiles without overlap begin, centred."""
    count = length // side
    first = (length - count * side) // 2
    return [first + i * side for i in range(count)]
