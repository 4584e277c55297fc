"""What all phases of a toolbox share: configuration, folder, photographs, device, and what was found so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..config.toolbox import ToolboxConfig, ToolConfig
from ..data import FolderSet, list_images, read_image
from ..data.listing import look_through
from ..errors import UserError
from ..networks.toolbox import TOOLS, TUNED, Agent, Tool
from ..networks.toolbox.box import configured, load_tool
from ..runs.folder import RunFolder
from ..system.device import pick_device
from ..system.watch import Watch, nobody
from .episodes import Episodes, Stream, tool_batch

Network = TypeVar("Network", bound=nn.Module)

LEAST_PHOTOGRAPHS, LEAST_SIDE = 20, 96
HELD_OUT = 10  # every tenth photograph is held out, wholly
LATER = 1 << 40  # numbers of patches from here on are for looks at a tool


class Photographs(NamedTuple):
    """What a toolbox is made of: uint8 [H, W, 3] each, wholly on one side, and what tells all of them from others."""

    training: Sequence[np.ndarray]
    held_out: Sequence[np.ndarray]
    digests: Sequence[str]


@dataclass
class Workshop:
    """See above.

    Attributes:
        config: of the toolbox.
        folder: BOX.
        photographs: of both sides.
        device: of networks and episodes.
        own: networks of the user's own, by their tools' names.
        results: what phases found, for metrics.json: plain values alone.
    """

    config: ToolboxConfig
    folder: RunFolder
    photographs: Photographs
    device: torch.device
    own: Mapping[str, nn.Module] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Of the tools, in the order of actions."""
        return [tool.name for tool in self.config.tools]

    @property
    def side(self) -> int:
        """Of patches, in pixels."""
        return self.config.agent.side

    def episodes(self, stream: Stream, held_out: bool = False) -> Episodes:
        """Episodes of the photographs of one side of the split."""
        photographs = self.photographs.held_out if held_out else self.photographs.training
        return Episodes(photographs, self.config.seed, self.side, self.config.damage, stream)

    def variety(self, stream: Stream, turns: bool = False) -> Episodes:
        """Episodes to learn from, `agent.jitter` of them in other light, `agent.undamaged` of them good photographs.

        Tools tuned without other light learn to lift the dark of the photographs they know.
        """
        agent = self.config.agent
        return replace(self.episodes(stream), turns=turns, jitter=agent.jitter, undamaged=agent.undamaged)

    def patches(self, place: int, numbers: Iterable[int], held_out: bool = False) -> tuple[Tensor, Tensor]:
        """Patches with the damage of the tool at that place, [N, 3, S, S] each; from `LATER` on they are for looks."""
        photographs = self.photographs.held_out if held_out else self.photographs.training
        return self.on_device(
            tool_batch(photographs, self.config.seed, self.config.tools[place], place, numbers, self.side)
        )

    def lessons(self, place: int, numbers: Iterable[int]) -> tuple[Tensor, Tensor]:
        """What the tool at that place learns from, on the host: its own damage, and in `fit.idle` of them another's."""
        tool, idle = self.config.tools[place], self.config.fit.idle
        others = [other for other in self.config.tools if other.damage not in ("given", tool.damage)]
        photographs = self.photographs.training
        return tool_batch(photographs, self.config.seed, tool, place, numbers, self.side, idle, others)

    def on_device(self, pairs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Damaged and clean patches where the networks are."""
        return pairs[0].to(self.device), pairs[1].to(self.device)

    def tool_path(self, tool: ToolConfig, tuned: bool = False) -> Path:
        """Where a tool lies."""
        return self.folder.path / (TUNED if tuned else TOOLS) / f"{tool.name}.safetensors"

    def tools(self, tuned: bool = False) -> list[nn.Module]:
        """All tools as they lie on disk, frozen; tuned ones where there are."""
        return [self.tool(tool, tuned) for tool in self.config.tools]

    def tool(self, tool: ToolConfig, tuned: bool = False) -> nn.Module:
        """One tool as it lies on disk, frozen."""
        path = self.tool_path(tool, tuned=True)
        path = path if tuned and path.is_file() else self.tool_path(tool)
        return self.to_device(load_tool(path, self.own.get(tool.name))).eval().requires_grad_(False)

    def to_device(self, tool: Network) -> Network:
        """A tool where networks are; on a CPU channels last, which spares a tenth of its time."""
        tool = tool.to(self.device)
        if self.device.type == "cpu" and isinstance(tool, Tool):
            tool.to(memory_format=torch.channels_last)
        return tool

    def new_agent(self) -> Agent:
        """An agent whose first weights depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            return Agent(len(self.config.tools), self.side, self.config.agent.pooled).to(self.device)


def open_box(box: Path, device: str = "auto", clean: Path | None = None) -> Workshop:
    """A finished toolbox with the photographs that it was made of; `clean` takes the place of those it held out.

    Raises:
        UserError: no toolbox, or its photographs are gone.
    """
    config = configured(box)
    if config.clean is None:
        raise UserError(f"{box} does not say what it was made of")
    photographs = open_photographs(config.clean, RunFolder(box).cache, nobody)
    if clean is not None:
        photographs = photographs._replace(held_out=[read_image(path, LEAST_SIDE) for path in list_images(clean)])
    return Workshop(config, RunFolder(box), photographs, pick_device(device))


def open_photographs(folder: Path, cache: Path, watch: Watch) -> Photographs:
    """Photographs for training and held-out ones, nine to one, each wholly on one side.

    Raises:
        UserError: too few of them, or one that is too small.
    """
    _demand_many(folder, len(look_through(folder, dangling=True).images))  # before any of them is decoded
    images = FolderSet.from_folder(folder, cache, watch)
    _demand_many(folder, len(images))
    for name, (height, width) in zip(images.names, images.sizes, strict=True):
        if min(height, width) < LEAST_SIDE:
            raise UserError(
                f"{folder / name}: {width} x {height} pixels; a toolbox needs {LEAST_SIDE} on each side: take it out"
            )
    sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for i in range(len(images)):
        sides[i % HELD_OUT == HELD_OUT - 1].append(images[i])
    return Photographs(*sides, images.digests)


def _demand_many(folder: Path, count: int) -> None:
    if count < LEAST_PHOTOGRAPHS:
        raise UserError(f"{folder}: {count} photographs can be used; a toolbox needs {LEAST_PHOTOGRAPHS} at least")
