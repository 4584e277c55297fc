"""The discriminator of the rainy domain: a PatchGAN that also sees the image's high frequencies (CSUD)."""

from __future__ import annotations

from torch import Tensor, nn

from ..ops import instance_norm_lrelu, with_high_pass
from ._common import SLOPE, check_image, init_normal


class Discriminator(nn.Module):
    """Tell real rainy images from synthesised ones, patch by patch. 2,767,809 parameters at the defaults.

    Args:
        width: channels after the first convolution; doubled three times.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.sizes = {"width": width}
        self.layers = nn.Sequential(
            nn.Conv2d(6, width, 4, stride=2, padding=1),
            nn.LeakyReLU(SLOPE),
            *_normalise(width, 2 * width, stride=2),
            *_normalise(2 * width, 4 * width, stride=2),
            *_normalise(4 * width, 8 * width, stride=1),
            nn.Conv2d(8 * width, 1, 4, padding=1),
        )
        init_normal(self)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 1, about H/8, about W/8] scores, towards 1 for real rain; 256 x 256 gives 30 x 30."""
        check_image(image)
        return self.layers(with_high_pass(image))


def _normalise(channels_in: int, channels: int, stride: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(channels_in, channels, 4, stride=stride, padding=1),
        InstanceNormLReLU(),
    )


class InstanceNormLReLU(nn.Module):
    """Instance normalisation without parameters, then LeakyReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return instance_norm_lrelu(x, SLOPE)
