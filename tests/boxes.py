"""The smallest toolboxes that tests play with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

TOOLS = [
    {"name": "soft", "damage": "noise", "low": 5, "high": 40},
    {"name": "sharp", "damage": "blur", "low": 0.5, "high": 3},
]
TINY_BOX = {
    "preset": "toolbox-small",
    "device": "cpu",
    "tools": TOOLS,
    "save_minutes": 0,
    "fit": {"steps": 6, "batch": 2, "look_every": 2, "look_patches": 2},
    "agent": {
        "side": 32, "total": 40, "parallel": 4, "update_every": 4, "batch": 4, "target_every": 8, "explore_after": 4,
        "explore_over": 20, "replay": 64, "jitter": 0.5, "undamaged": 0.2,
    },
    "joint": {"steps": 4, "batch": 4, "look_every": 2, "look_episodes": 3},
    "measure": {"gate_states": 8, "gate_share": 0, "gate_gain": -99, "episodes": 6, "search_episodes": 2},
}  # fmt: skip


class Shift(nn.Module):
    """A tool that adds a number: what a chain does is then plain."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))

    def forward(self, image):
        return image + self.by


class Wishes(nn.Module):
    """In an agent's place: the worth of every action is told for each step, whatever the images."""

    def __init__(self, *steps, side: int = 32) -> None:
        super().__init__()
        self.told = nn.Parameter(torch.tensor(steps), requires_grad=False)  # [T, A + 1]
        self.tools, self.side, self.seen, self.before = len(steps[0]) - 1, side, [], []

    @property
    def stop(self):
        return self.tools

    def forward(self, images, previous, hidden=None):
        at = hidden or 0
        self.seen.append(images.clone())
        self.before.append(previous.clone())
        steps = images.shape[1]
        return self.told[at : at + steps].expand(len(images), -1, -1), at + steps


def write_scenes(folder: Path, count: int = 20, sides: tuple[int, int] = (100, 120)) -> Path:
    """A folder of smooth photographs, whose damage can be repaired."""
    folder.mkdir()
    rng = np.random.default_rng(3)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        coarse.resize(sides[::-1], Image.Resampling.BICUBIC).save(folder / f"{i:02}.png")
    return folder


def patches(count: int, side: int = 32) -> torch.Tensor:
    """Smooth patches, [count, 3, side, side]."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(coarse, (side, side), mode="bilinear")
