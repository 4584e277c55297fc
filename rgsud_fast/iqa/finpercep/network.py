"""FinPercep-RM's network: a score of an image and a map of where it is spoiled, from the image and what was removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Gate: TypeAlias = Literal["kept", "literal"]

SLOPE = 0.2  # of every LeakyReLU
STAGES = 3  # with a map, at strides 8, 4 and 2
FIRST_BIAS = -2.0  # of the map heads: most of an image is not spoiled


class Size(NamedTuple):
    """Channels after each halving, and of the score head."""

    widths: tuple[int, int, int, int]
    head: int


SIZES = {
    "small": Size((16, 32, 48, 64), 32),  # 197,012 parameters with the heads of all stages; for a CPU
    "base": Size((64, 128, 192, 256), 128),  # 3,107,396
}


class ScoreNet(nn.Module):
    """A network with a score and, in the last of its decoder's stages, a map: what scores, losses and fits know."""

    gate: Gate
    maps: nn.ModuleList

    def initialise(self, generator: torch.Generator) -> ScoreNet:
        """Draw the first weights from a generator of one's own; those of a trunk stay."""
        for name, layer in self.named_modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and not name.startswith("trunk."):
                nn.init.kaiming_normal_(layer.weight, SLOPE, generator=generator)
                nn.init.zeros_(cast(Tensor, layer.bias))
        for head in self.maps:
            nn.init.constant_(cast(Tensor, head.bias), FIRST_BIAS)
        return self

    def groups(self, rate: float) -> list[dict]:
        """The parameters, with the share of the learning rate that they learn at."""
        return [{"params": [*self.parameters()], "share": 1.0, "lr": rate}]


class FinPercepNet(ScoreNet):
    """Score S in (0, 1) and map M in (0, 1), 1 where the image is spoiled.

    The encoder halves four times; the decoder of stage k goes back k times, and its map has stride 8, 4 or 2. Score
    and map hang together: S = MLP(mean over pixels of f * g(M)) with f the deepest features (after FinPercep-RM, CVPR
    2026). The first filters sum to zero in each channel of the image, so its brightness, which tells scenes apart and
    not quality, never enters; that of the layer does, which shows tints and veils.

    Args:
        widths: channels after each of the four halvings.
        head: hidden channels of the score head.
        gate: g: "kept" is 1 - M, features of what is not spoiled; "literal" is M, with which every clean image would
            have one and the same score.
    """

    def __init__(self, widths: Sequence[int] = SIZES["small"].widths, head: int = 32, gate: Gate = "kept") -> None:
        super().__init__()
        a, b, c, d = widths
        self.widths, self.gate = (a, b, c, d), gate
        self.first = nn.Conv2d(6, a, 5, stride=2)
        self.down = nn.ModuleList(_twice(low, high) for low, high in ((a, b), (b, c), (c, d)))
        self.up = nn.ModuleList(nn.Conv2d(high + low, low, 3, padding=1) for high, low in ((d, c), (c, b), (b, a)))
        self.maps = nn.ModuleList(nn.Conv2d(width, 1, 3, padding=1) for width in (c, b, a))
        self.score = nn.Sequential(nn.Linear(d, head), nn.LeakyReLU(SLOPE), nn.Linear(head, 1))

    def forward(self, images: Tensor, layer: Tensor, stage: int = STAGES) -> tuple[Tensor, Tensor]:
        """Score and map of each image.

        Args:
            images: [N, 3, H, W] in [0, 1].
            layer: what was taken away, rainy - images, same shape; zero where it is not known.
            stage: 1, 2 or 3: how far the decoder goes.

        Returns:
            The scores' logits, [N], and the maps' logits, [N, 1, h, w] with h about H / 8, H / 4 or H / 2.
        """
        x = zero_sum(self.first, images, layer)
        taps = [x]
        for block in self.down:
            taps.append(block(taps[-1]))
        deepest = x = taps.pop()
        for convolution in list(self.up)[:stage]:
            tap = taps.pop()
            x = F.interpolate(x, size=tap.shape[2:], mode="bilinear", align_corners=False)
            x = F.leaky_relu(convolution(torch.cat([x, tap], 1)), SLOPE)
        spoiled = self.maps[stage - 1](x)
        return self.score(gated_mean(deepest, spoiled, self.gate))[:, 0], spoiled


def blank(widths: Sequence[int], head: int, gate: Gate = "kept") -> FinPercepNet:
    """A network whose making draws nothing from PyTorch's global generator, which a resumed run must find unmoved."""
    with torch.random.fork_rng(devices=[]):
        return FinPercepNet(widths, head, gate)


def zero_sum(first: nn.Conv2d, images: Tensor, layer: Tensor) -> Tensor:
    """The first convolution, by filters that are made zero-sum in the image's channels; the layer is seen whole."""
    of_image, of_layer = first.weight.split(3, 1)
    filters = torch.cat([of_image - of_image.mean((2, 3), keepdim=True), of_layer], 1)
    both = F.pad(torch.cat([images, layer], 1), (2, 2, 2, 2), mode="replicate")  # zeros would show brightness
    return F.leaky_relu(F.conv2d(both, 4 * filters, first.bias, 2), SLOPE)  # x 4: about unit variance


def gated_mean(features: Tensor, spoiled: Tensor, gate: Gate) -> Tensor:
    """Means over pixels of features [N, C, h, w], each times g(M), M the sigmoid of logits on any grid -> [N, C]."""
    weights = F.adaptive_avg_pool2d(torch.sigmoid(spoiled), (features.shape[2], features.shape[3]))
    return (features * (weights if gate == "literal" else 1 - weights)).mean((2, 3))


def _twice(low: int, high: int) -> nn.Sequential:
    """Halve, then look once more at the same scale."""
    return nn.Sequential(
        nn.Conv2d(low, high, 3, stride=2, padding=1),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(high, high, 3, padding=1),
        nn.LeakyReLU(SLOPE),
    )
