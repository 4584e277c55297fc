"""FinPercep-RM on the trunk of CLIP's ResNet-50, by weights that the user has: for a GPU, 31 million parameters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ...errors import UserError, reason
from ...system.names import utf8_name
from ...system.torch_files import load_tensors
from ..scorer import below
from .network import SLOPE, STAGES, Gate, ScoreNet, gated_mean, zero_sum

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's images
SIDE = (32, 64)  # channels of the branch that sees the removed layer
GROUPS = 8
PREFIX = "visual."  # of the trunk in a file of CLIP


class Bottleneck(nn.Module):
    """A residual block of CLIP's ResNet, whose strides are averages."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels_in, channels, 1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv3, self.bn3 = nn.Conv2d(channels, 4 * channels, 1, bias=False), nn.BatchNorm2d(4 * channels)
        self.stride = stride
        self.downsample: nn.Module | None = None
        if stride > 1 or channels_in != 4 * channels:
            straight = nn.Conv2d(channels_in, 4 * channels, 1, bias=False)
            parts = (("-1", nn.AvgPool2d(stride)), ("0", straight), ("1", nn.BatchNorm2d(4 * channels)))
            self.downsample = nn.Sequential(OrderedDict(parts))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, 4 * channels, H / stride, W / stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(F.avg_pool2d(y, self.stride) if self.stride > 1 else y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Trunk(nn.Module):
    """CLIP's ResNet without its attention pooling; names as in CLIP. Statistics of normalisation stay as they are.

    Args:
        width: channels of the stem; 64 is RN50.
        blocks: residual blocks of each of the four levels.
    """

    def __init__(self, width: int = 64, blocks: Sequence[int] = (3, 4, 6, 3)) -> None:
        super().__init__()
        half = width // 2
        self.conv1, self.bn1 = nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = nn.Conv2d(half, half, 3, padding=1, bias=False), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = nn.Conv2d(half, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        channels = width
        for level, count in enumerate(blocks):
            inner = width * 2**level
            made = [Bottleneck(channels, inner, 2 if level else 1)]
            made += [Bottleneck(4 * inner, inner, 1) for _ in range(count - 1)]
            setattr(self, f"layer{level + 1}", nn.Sequential(*made))
            channels = 4 * inner
        self.train()

    def forward(self, images: Tensor) -> list[Tensor]:
        """[N, 3, H, W] in [0, 1] -> features at strides 2, 4, 8, 16 and 32."""
        mean, std = (images.new_tensor(values)[:, None, None] for values in (MEAN, STD))
        x = F.relu(self.bn1(self.conv1((images - mean) / std)))
        x = F.relu(self.bn2(self.conv2(x)))
        taps = [F.relu(self.bn3(self.conv3(x)))]
        x = F.avg_pool2d(taps[0], 2)
        for level in range(1, 5):
            x = getattr(self, f"layer{level}")(x)
            taps.append(x)
        return taps

    def train(self, mode: bool = True) -> Trunk:
        """As of any module, but batches never change the statistics."""
        return super().train(False)


class ClipNet(ScoreNet):
    """A score and a map, as of `FinPercepNet`, from the trunk's features and a branch that sees the removed layer.

    Args:
        width, blocks: of the trunk.
        gate: see `FinPercepNet`.
    """

    def __init__(self, width: int = 64, blocks: Sequence[int] = (3, 4, 6, 3), gate: Gate = "kept") -> None:
        super().__init__()
        self.gate = gate
        self.trunk = Trunk(width, blocks)
        self.first = nn.Conv2d(6, SIDE[0], 5, stride=2)
        self.second = nn.Conv2d(SIDE[0], SIDE[1], 3, stride=2, padding=1)
        self.reduce = nn.Conv2d(32 * width, 8 * width, 1)
        wide = [8 * width, 4 * width, 2 * width, width, width // 2]
        taps = [16 * width, 8 * width, 4 * width + SIDE[1], width + SIDE[0]]
        self.up = nn.ModuleList(_stage(high + tap, low) for high, tap, low in zip(wide, taps, wide[1:], strict=False))
        self.maps = nn.ModuleList(nn.Conv2d(channels, 1, 1) for channels in wide[2:])
        layers = (nn.Linear(32 * width + SIDE[1], 512), nn.LeakyReLU(SLOPE), nn.Linear(512, 128), nn.LeakyReLU(SLOPE))
        self.score = nn.Sequential(*layers, nn.Linear(128, 1))

    def forward(self, images: Tensor, layer: Tensor, stage: int = STAGES) -> tuple[Tensor, Tensor]:
        """See `FinPercepNet.forward`; images of 32 pixels a side or more."""
        half, quarter, eighth, sixteenth, deepest = self.trunk(images)
        fine = zero_sum(self.first, images, layer)
        coarse = F.leaky_relu(self.second(fine), SLOPE)
        taps = [sixteenth, eighth, _beside(quarter, coarse), _beside(half, fine)]
        x = self.reduce(deepest)
        for part, tap in list(zip(self.up, taps, strict=True))[: stage + 1]:
            x = F.interpolate(x, size=tap.shape[2:], mode="bilinear", align_corners=False)
            x = part(torch.cat([x, tap], 1))
        spoiled = self.maps[stage - 1](x)
        means = [gated_mean(features, spoiled, self.gate) for features in (deepest, coarse)]
        return self.score(torch.cat(means, 1))[:, 0], spoiled

    def initialise(self, generator: torch.Generator) -> ClipNet:
        """Draw the first weights of what CLIP does not have from a generator of one's own."""
        super().initialise(generator)
        return self

    def groups(self, rate: float) -> list[dict]:
        """The trunk learns at a tenth of the rate."""
        trunk = {*self.trunk.parameters()}
        rest = [parameter for parameter in self.parameters() if parameter not in trunk]
        return [{"params": rest, "share": 1.0, "lr": rate}, {"params": [*trunk], "share": 0.1, "lr": rate}]


def read_clip(path: str | Path) -> ClipNet:
    """A network whose trunk has the weights of CLIP's RN50, as open_clip saves them (.safetensors, .bin or .pt).

    Raises:
        UserError: no such file, or it holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"--clip {path}: no such file; give CLIP's RN50 as open_clip saves it")
    try:
        with utf8_name(path) as name:
            held: Any = load_file(name) if path.suffix == ".safetensors" else load_tensors(path)
        held = held.get("state_dict", held)
        mine = {name.removeprefix(PREFIX): value for name, value in held.items() if name.startswith(PREFIX)}
        mine = {name: value.float() for name, value in mine.items() if not name.startswith("attnpool.")}
        with torch.random.fork_rng(devices=[]):
            network = ClipNet(*_sizes(mine))
        network.trunk.load_state_dict(mine)
    except Exception as error:  # a damaged header makes its reader raise nearly anything
        raise UserError(f"--clip {path} is not CLIP's RN50 as open_clip saves it ({reason(error, 100)})") from None
    return network


def like_clip(state: dict[str, Tensor], gate: Gate = "kept") -> ClipNet:
    """The network that a state was taken of, without its numbers."""
    with torch.device("meta"):
        return ClipNet(*_sizes(below(state, "trunk.")), gate)


def _sizes(trunk: dict[str, Tensor]) -> tuple[int, list[int]]:
    """Width and blocks of a trunk's state."""
    counts = [len({name.split(".")[1] for name in trunk if name.startswith(f"layer{n}.")}) for n in (1, 2, 3, 4)]
    return len(trunk["conv3.weight"]), counts


def _stage(channels_in: int, channels: int) -> nn.Sequential:
    made: list[nn.Module] = []
    for inside in (channels_in, channels):
        made += [nn.Conv2d(inside, channels, 3, padding=1), nn.GroupNorm(min(GROUPS, channels), channels)]
        made.append(nn.LeakyReLU(SLOPE))
    return nn.Sequential(*made)


def _beside(features: Tensor, others: Tensor) -> Tensor:
    """Both together, on the grid of the first."""
    others = F.interpolate(others, size=features.shape[2:], mode="bilinear", align_corners=False)
    return torch.cat([features, others], 1)
