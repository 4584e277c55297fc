"""The transfer network T of CSUD: paints the rain of a guide, a whole rainy image, onto another scene (CVPR 2025)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ._common import SLOPE, Conv, check_image, cut, pad_to_multiple, start_grey
from .generator import ResidualBlock

UNUSED = 84_453  # parameters of the published network that lie in no path, and are left out here


class Transfer(nn.Module):
    """Make a rainy image of a clean one and of a guide. 2,379,971 parameters at the defaults; published, 2,464,424.

    Zero padding, nothing squashed or clamped at the end; the guide's convolutions have spectral norm and no bias. First
    weights are PyTorch's, as published.

    Args:
        width: channels of both images' features; the blocks have twice as many.
        blocks: residual blocks.
        residual: add what the layers make to the clean image: a fresh network is near the identity.
    """

    def __init__(self, width: int = 64, blocks: int = 6, residual: bool = False) -> None:
        super().__init__()
        self.sizes = {"width": width, "blocks": blocks, "residual": residual}
        self.residual = residual
        self.first = Conv(3, width, 7)
        self.guide_down = _spectral(width, 2 * width, 4, 2)
        self.guide_up = _spectral(2 * width, width, 3)
        self.guide_last = _spectral(width, width, 3)
        self.blocks = nn.Sequential(*(ResidualBlock(2 * width) for _ in range(blocks)))
        self.merge1 = Conv(2 * width, width, 3, SLOPE)
        self.merge2 = Conv(width, width, 3, SLOPE)
        self.merge3 = Conv(width, width, 3)
        self.skip = Conv(width, width, 7)
        self.last = Conv(width, 3, 7)

    def start_near_identity(self) -> None:
        """Make the rain of a fresh residual network faint, grey and free of low frequencies."""
        if self.residual:
            start_grey(self.last)

    def forward(self, scene: Tensor) -> Tensor:
        """Paint rain.

        Args:
            scene: clean image and guide side by side, [N, 6, H, W], any H and W; padded inside to even ones.

        Returns:
            The rainy image, [N, 3, H, W], not clamped.
        """
        check_image(scene, channels=6, name="scene")
        height, width = scene.shape[-2:]
        clean, guide = pad_to_multiple(scene, 2).split(3, dim=1)
        x = self.first(clean)
        features = self.blocks(torch.cat([x, self._rain_of(guide)], dim=1))
        features = self.merge3(self.merge2(self.merge1(features))) + self.skip(x) + x
        made = self.last(features)
        return cut(clean + made if self.residual else made, height, width)

    def _rain_of(self, guide: Tensor) -> Tensor:
        """Features of the guide, [N, 3, H, W] -> [N, width, H, W]."""
        x = self.first(guide)
        half = F.leaky_relu(self.guide_down(x), SLOPE)
        double = F.interpolate(half, scale_factor=2, mode="bilinear", align_corners=False)
        return self.guide_last(F.leaky_relu(self.guide_up(double), SLOPE) + x)


class _SpectralConv(nn.Conv2d):
    """A convolution whose weight is divided by its largest singular value, in float32 whatever the layers round to."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            weight = self.weight  # in training each call of the network takes a step of power iteration
        return self._conv_forward(x, weight, None)


def _spectral(channels_in: int, channels: int, taps: int, stride: int = 1) -> nn.Module:
    conv = _SpectralConv(channels_in, channels, taps, stride, padding=1, bias=False)
    return spectral_norm(conv)
