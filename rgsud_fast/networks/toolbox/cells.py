"""A chain for each cell of a photograph, for damage that is local, as drops on the lens are."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from ...config.toolbox import STOP
from ...errors import UserError
from .agent import NONE, Hidden
from .chain import AT_ONCE, Chain, check_sides
from .tools import reach_of

CELL = 64  # pixels; the last of a row or column takes the rest too
FADE = 8  # pixels on each side of an edge between cells, over which results are blended
FARTHEST = CELL // 2  # that a tool may see: its cells would be done in windows larger than most photographs


class Cells(NamedTuple):
    """What was done."""

    image: Tensor  # [1, 3, H, W], not clipped
    actions: list[list[str]]  # of each step, what each cell chose, row by row
    grid: tuple[int, int]  # rows and columns of cells


@torch.no_grad()
def per_cell(chain: Chain, image: Tensor) -> Cells:
    """Let each cell of an image choose its own tools.

    A tool runs on the cells that chose it, with as much around them as it sees; across the edges of cells results fade
    into one another over 2 * `FADE` pixels, so that equal choices give what the whole image gives.

    Args:
        chain: the tools and their agent.
        image: [1, 3, H, W], on the device of the chain.

    Raises:
        UserError: an image smaller than the agent's side, or a tool that sees farther than `FARTHEST` pixels.
    """
    height, width = image.shape[-2:]
    side = chain.agent.side
    check_sides(height, width, max(side, CELL))
    reaches = [reach_of(tool) for tool in chain.tools]
    for name, reach in zip(chain.names, reaches, strict=True):
        if reach > FARTHEST:
            raise UserError(f"the tool {name} sees more than {FARTHEST} pixels around each: leave --per-tile out")
    rows, columns = _edges(height), _edges(width)
    cells = [(i, j) for i in range(len(rows) - 1) for j in range(len(columns) - 1)]
    fades = _fades(rows).to(image), _fades(columns).to(image)
    previous = torch.full((len(cells),), NONE, device=image.device)
    running = torch.ones(len(cells), dtype=torch.bool, device=image.device)
    hidden: Hidden | None = None
    told: list[list[str]] = []
    for _ in range(chain.steps):
        seen = torch.cat([_middle(image, rows[i : i + 2], columns[j : j + 2], side) for i, j in cells])
        worth, hidden = chain.agent(seen[:, None], previous[:, None], hidden)
        actions = torch.where(running, worth[:, 0].argmax(1), chain.agent.stop)
        told.append([[*chain.names, STOP][action] for action in actions.tolist()])
        running &= actions != chain.agent.stop
        if not bool(running.any()):
            break
        image = _blend(chain, image, actions.tolist(), cells, (rows, columns), fades, reaches)
        previous = torch.where(running, actions, NONE)
    return Cells(image, told, (len(rows) - 1, len(columns) - 1))


def _blend(
    chain: Chain,
    image: Tensor,
    actions: list[int],
    cells: list[tuple[int, int]],
    edges: tuple[list[int], list[int]],
    fades: tuple[Tensor, Tensor],
    reaches: list[int],
) -> Tensor:
    """Each cell after its own action, blended: sum over cells of fade * tool(image)."""
    height, width = image.shape[-2:]
    blended = torch.zeros_like(image)
    windows: dict[tuple[int, ...], list[tuple[int, int, int, int, int, int]]] = {}
    for (i, j), action in zip(cells, actions, strict=True):
        halo = FADE + (reaches[action] if action < len(reaches) else 0)
        top, bottom = max(edges[0][i] - halo, 0), min(edges[0][i + 1] + halo, height)
        left, right = max(edges[1][j] - halo, 0), min(edges[1][j + 1] + halo, width)
        alike = (action, bottom - top, right - left)
        windows.setdefault(alike, []).append((i, j, top, bottom, left, right))
    for (action, *_), places in windows.items():
        for start in range(0, len(places), AT_ONCE):
            some = places[start : start + AT_ONCE]
            cut = torch.cat([image[..., top:bottom, left:right] for *_, top, bottom, left, right in some])
            done = chain.tools[action](cut) if action < len(reaches) else cut
            for one, (i, j, top, bottom, left, right) in zip(done, some, strict=True):
                weight = fades[0][i, top:bottom, None] * fades[1][j, left:right]
                blended[0, :, top:bottom, left:right] += weight * one
    return blended


def _edges(length: int) -> list[int]:
    """Where cells begin, and where the last one ends."""
    return [*range(0, length - length % CELL, CELL), length]


def _fades(edges: list[int]) -> Tensor:
    """Weight of each cell at each pixel along one axis, [cells, length]; they sum to one."""
    place = torch.arange(edges[-1]) + 0.5
    rising = [torch.ones(edges[-1])]
    rising += [((place - edge) / (2 * FADE) + 0.5).clamp(0, 1) for edge in edges[1:-1]]
    rising += [torch.zeros(edges[-1])]
    return torch.stack([a - b for a, b in itertools.pairwise(rising)])


def _middle(image: Tensor, rows: list[int], columns: list[int], side: int) -> Tensor:
    """The agent's view of a cell, [1, 3, side, side]: around its middle, moved inside the image."""
    starts = []
    for (start, end), length in zip((rows, columns), image.shape[-2:], strict=True):
        starts.append(min(max((start + end - side) // 2, 0), length - side))
    top, left = starts
    return image[..., top : top + side, left : left + side]
