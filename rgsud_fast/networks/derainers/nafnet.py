"""The derainer: NAFNet (Chen et al., ECCV 2022), the only network used after training."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...ops import NafWeights, nafblock, pixel_shuffle_skip
from ...ops.nafblock import compose
from .._common import Blocks, Conv, Down, check_image, cut, pad_to_multiple
from ..windows import Windowed, local_mean


class NAFNet(nn.Module):
    """Remove rain from an image: NAFNet with a global residual.

    Layer table of NAFNet's published code; 29,159,715 parameters at the defaults.

    Args:
        width: channels at full resolution; doubled per level.
        encoder: blocks per encoder level.
        middle: blocks at the lowest resolution.
        decoder: blocks per decoder level.
    """

    def __init__(
        self,
        width: int = 32,
        encoder: Sequence[int] = (2, 2, 4, 8),
        middle: int = 12,
        decoder: Sequence[int] = (2, 2, 2, 2),
    ) -> None:
        super().__init__()
        self.sizes: dict[str, Any] = {"width": width, "encoder": list(encoder)}
        self.sizes |= {"middle": middle, "decoder": list(decoder)}
        widths = [width << level for level in range(len(encoder) + 1)]
        self.first = Conv(3, width, 3)
        self.encoder = nn.ModuleList(
            _blocks(c, count, level) for level, (c, count) in enumerate(zip(widths, encoder, strict=False))
        )
        self.downs = nn.ModuleList(Down(c, 2 * c, 2, stride=2) for c in widths[:-1])
        self.middle = _blocks(widths[-1], middle, len(encoder))
        self.ups = nn.ModuleList(
            nn.Sequential(Down(2 * c, 4 * c, 1, bias=False))
            for c in widths[-2::-1]  # the shuffle adds the skip
        )
        self.decoder = nn.ModuleList(
            _blocks(widths[level], count, level)
            for level, count in zip(reversed(range(len(encoder))), decoder, strict=True)
        )
        self.last = Conv(width, 3, 3)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 3, H, W], any H and W; padded inside to a multiple of 2^levels."""
        check_image(image)
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, 1 << len(self.downs))
        x = self.first(padded)
        skips = []
        for blocks, down in zip(self.encoder, self.downs, strict=True):
            x = blocks(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for up, blocks in zip(self.ups, self.decoder, strict=True):
            x = blocks(pixel_shuffle_skip(up(x), skips.pop()))
        return cut(self.last(x) + padded, height, width)


class NAFBlock(nn.Module, Windowed):
    """NAFNet's nonlinear activation free block, [N, C, H, W] -> [N, C, H, W]; its attention's mean may be windowed."""

    def __init__(self, channels: int, level: int = 0) -> None:
        super().__init__()
        self.level = level
        self.norm1 = LayerNorm2d(channels)
        self.expand1 = nn.Conv2d(channels, 2 * channels, 1)
        self.depthwise = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.attention = nn.Conv2d(channels, channels, 1)
        self.project1 = nn.Conv2d(channels, channels, 1)
        self.norm2 = LayerNorm2d(channels)
        self.expand2 = nn.Conv2d(channels, 2 * channels, 1)
        self.project2 = nn.Conv2d(channels, channels, 1)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def weights(self) -> NafWeights:
        """The block's parameters as the op takes them."""
        layers = [
            self.norm1, self.expand1, self.depthwise, self.attention, self.project1,
            self.norm2, self.expand2, self.project2,
        ]  # fmt: skip
        parameters: list[Any] = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
        parameters += [self.beta, self.gamma]
        return NafWeights(*parameters)

    def forward(self, x: Tensor) -> Tensor:
        if self.window:
            return compose(x, self.weights(), functools.partial(local_mean, side=self.window))
        return nafblock(x, self.weights())


class LayerNorm2d(nn.Module):
    """The parameters of a layer normalisation over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))


def _blocks(channels: int, count: int, level: int) -> Blocks:
    return Blocks(*(NAFBlock(channels, level) for _ in range(count)))
