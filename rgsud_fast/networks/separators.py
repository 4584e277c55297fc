"""The separators of NLCL (Ye et al., CVPR 2022): one makes the background of a rainy image, one its rain layer."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from ._common import check_image, make_faint
from .windows import InstanceNorm

LAYERS = (
    0,
    2,
    4,
    8,
    12,
)  # whose features are compared, in the published numbering: 0 the first convolution, then blocks


class Separator(nn.Module):
    """A layer of an image, at full resolution. 316,195 parameters at the defaults.

    Zero padding, instance normalisation without parameters, nothing squashed. Tensors have the published names, so the
    published weights of either separator load.

    Args:
        width: channels.
        blocks: residual blocks.
        residual: add what the layers make to the image, of a background: a fresh network is near the identity.
        rain: the layer is rain, whose 0 is no rain; `residual` is then of no effect.
    """

    def __init__(self, width: int = 32, blocks: int = 16, residual: bool = False, rain: bool = False) -> None:
        super().__init__()
        self.sizes = {"width": width, "blocks": blocks, "residual": residual, "rain": rain}
        self.residual, self.rain = residual, rain
        inner = (Block(width) for _ in range(blocks))
        self.gen = nn.Sequential(_conv(3, width), *inner, Tail(width), _conv(width, 3))

    def start_near_identity(self) -> None:
        """Make the change of a fresh residual separator, or its rain, faint."""
        if self.residual:
            make_faint(cast(nn.Conv2d, self.gen[-1]))

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] in [0, 1] -> the background, or the light that rain adds, the same shape, not clamped."""
        check_image(image)
        made = self.gen(2 * image - 1) / 2
        if self.rain:
            return made
        return made + (image if self.residual else 0.5)

    def features(self, image: Tensor) -> list[Tensor]:
        """What contrastive losses compare, [N, width, H, W] each: the layers of `compared_layers`."""
        check_image(image)
        x, features = 2 * image - 1, []
        wanted = compared_layers(self.sizes["blocks"])
        for number, layer in enumerate(self.gen[: wanted[-1] + 1]):
            x = layer(x)
            if number in wanted:
                features.append(x)
        return features


def compared_layers(blocks: int) -> list[int]:
    """The layers whose features are compared: LAYERS as far as there are blocks, and then the last block."""
    found = [layer for layer in LAYERS if layer <= blocks]
    return found if len(found) == len(LAYERS) or blocks in found else [*found, blocks]


class Block(nn.Module):
    """x + IN(conv3x3(relu(IN(conv3x3(x)))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.model = nn.Sequential(NormedConv(width, 0.0), NormedConv(width, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.model(x)


class NormedConv(nn.Module):
    """conv3x3, instance normalisation and LeakyReLU of that slope; 0 is ReLU, 1 none."""

    def __init__(self, width: int, slope: float) -> None:
        super().__init__()
        self.conv = _conv(width, width)
        self.norm = InstanceNorm(slope)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Tail(nn.Module):
    """conv3x3(relu(IN(conv3x3(x))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.ModuleDict({"0": _conv(width, width), "3": _conv(width, width)})
        self.norm = InstanceNorm(0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv["3"](self.norm(self.conv["0"](x)))


def _conv(channels_in: int, channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, 3, padding=1)
