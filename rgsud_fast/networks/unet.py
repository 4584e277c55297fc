"""The U-Net of the degradation estimation module (DEM): its output is the clean estimate of a rainy image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ._common import SLOPE, Conv, Down, Up, check_image, cut, init_normal, pad_to_multiple


class UNet(nn.Module):
    """Estimate the clean image at full resolution, so that rainy - estimate is the rain information.

    2,270,499 parameters at the defaults.

    Args:
        width: channels at full resolution; doubled per level.
        levels: resolution levels, the bottom included.
    """

    def __init__(self, width: int = 32, levels: int = 4) -> None:
        super().__init__()
        self.sizes = {"width": width, "levels": levels}
        widths = [width << level for level in range(levels)]
        self.levels = nn.ModuleList(_two_convs(c_in, c) for c_in, c in zip([3, *widths[:-1]], widths, strict=True))
        self.downs = nn.ModuleList(Down(c, c, 4, stride=2, padding=1, bias=False) for c in widths[:-1])
        self.ups = nn.ModuleList(Up(2 * c, c, 2, stride=2) for c in widths[-2::-1])
        self.merges = nn.ModuleList(_two_convs(2 * c, c) for c in widths[-2::-1])
        self.last = Conv(width, 3, 3)
        init_normal(self)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 3, H, W], any H and W; padded inside to a multiple of 2^(levels - 1)."""
        check_image(image)
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, 1 << len(self.downs))
        x = self.levels[0](padded)
        skips = []
        for down, level in zip(self.downs, self.levels[1:], strict=True):
            skips.append(x)
            x = level(down(x))
        for up, merge in zip(self.ups, self.merges, strict=True):
            x = merge(torch.cat([up(x), skips.pop()], dim=1))
        return cut(self.last(x) + padded, height, width)


def _two_convs(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(Conv(channels_in, channels, 3, SLOPE), Conv(channels, channels, 3, SLOPE))
