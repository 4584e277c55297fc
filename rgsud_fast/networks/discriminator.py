"""The judges of a domain: a PatchGAN 70 x 70 that also sees the image's high frequencies (CSUD), or not."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import instance_norm_lrelu, with_high_pass
from ._common import SLOPE, Down, check_image, init_normal


class Discriminator(nn.Module):
    """Tell real images of a domain from made ones, patch by patch. 2,767,809 parameters at the defaults.

    Args:
        width: channels after the first convolution; doubled three times.
        high_pass: it also sees the image's high frequencies; without them 2,764,737 parameters (CycleGAN's and CUT's).
        antialias: halve by a blur in place of strides (CUT's).
    """

    def __init__(self, width: int = 64, high_pass: bool = True, antialias: bool = False) -> None:
        super().__init__()
        others = {"high_pass": (high_pass, True), "antialias": (antialias, False)}
        self.sizes = {"width": width} | {name: value for name, (value, usual) in others.items() if value != usual}
        self.high_pass = high_pass
        stride = 1 if antialias else 2
        self.layers = nn.Sequential(
            Down(6 if high_pass else 3, width, 4, stride=stride, padding=1),
            nn.LeakyReLU(SLOPE),
            *([Halve()] if antialias else []),
            *_normalise(width, 2 * width, stride),
            *([Halve()] if antialias else []),
            *_normalise(2 * width, 4 * width, stride),
            *([Halve()] if antialias else []),
            *_normalise(4 * width, 8 * width, stride=1),
            Down(8 * width, 1, 4, padding=1),
        )
        init_normal(self)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 1, about H/8, about W/8] scores, towards 1 for real images; 256 x 256 gives 30 x 30."""
        check_image(image)
        return self.layers(self._input(image))

    def features(self, image: Tensor) -> list[Tensor]:
        """What contrastive losses compare (NLCL's image and layers 0, 3, 7 and 11).

        2 image - 1, then every convolution but the last, before its activation or normalisation.
        """
        check_image(image)
        x, features = self._input(image), [2 * image - 1]
        for layer in self.layers[:-1]:
            x = layer(x)
            if isinstance(layer, nn.Conv2d):
                features.append(x)
        return features

    def _input(self, image: Tensor) -> Tensor:
        return with_high_pass(image) if self.high_pass else 2 * image - 1


def _normalise(channels_in: int, channels: int, stride: int) -> tuple[nn.Module, ...]:
    return (
        Down(channels_in, channels, 4, stride=stride, padding=1),
        InstanceNormLReLU(),
    )


class Halve(nn.Module):
    """Blur by [1 2 1]/4 each way, reflected borders, and keep every second pixel."""

    def forward(self, x: Tensor) -> Tensor:
        bordered = F.pad(x, (1, 1, 1, 1), mode="reflect")
        return F.avg_pool2d(F.avg_pool2d(bordered, 2, 1), 2, 2)  # two means of 2 x 2 are [1 2 1] x [1 2 1] / 16


class InstanceNormLReLU(nn.Module):
    """Instance normalisation without parameters, then LeakyReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return instance_norm_lrelu(x, SLOPE)
