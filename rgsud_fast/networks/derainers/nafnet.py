"""The derainer: NAFNet (Chen et al., ECCV 2022), the only network used after training."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UserError
from ...ops import NafWeights, nafblock, pixel_shuffle_skip
from ...ops.nafblock import compose
from .._common import Blocks, Conv, Down, check_image, cut, pad_to_multiple

PER_CROP = 1.5  # side of the windows of local statistics by that of the training crops: NAFNet's in its authors' code


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
        self.sizes: dict[str, int | list[int]] = {"width": width, "encoder": list(encoder)}
        self.sizes |= {"middle": middle, "decoder": list(decoder)}
        widths = [width << level for level in range(len(encoder) + 1)]
        self.first = Conv(3, width, 3)
        self.encoder = nn.ModuleList(_blocks(c, count) for c, count in zip(widths, encoder, strict=False))
        self.downs = nn.ModuleList(Down(c, 2 * c, 2, stride=2) for c in widths[:-1])
        self.middle = _blocks(widths[-1], middle)
        self.ups = nn.ModuleList(
            nn.Sequential(Down(2 * c, 4 * c, 1, bias=False))
            for c in widths[-2::-1]  # the shuffle adds the skip
        )
        self.decoder = nn.ModuleList(_blocks(c, count) for c, count in zip(widths[-2::-1], decoder, strict=True))
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


class NAFBlock(nn.Module):
    """NAFNet's nonlinear activation free block, [N, C, H, W] -> [N, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.window = 0  # side of the windows of its mean; 0: the whole image, as in training
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


@contextlib.contextmanager
def local_statistics(network: nn.Module, side: int) -> Iterator[nn.Module]:
    """Let the means inside a derainer see windows and not the whole image, as in training they saw crops and no more.

    The test-time local converter (Chu et al., "Improving Image Restoration by Revisiting Global Information
    Aggregation", ECCV 2022), whose windows for NAFNet are PER_CROP times the training crop. The blocks are then
    composed of several ops; a block whose features are no larger than its window takes their mean as before.

    Args:
        network: the derainer; 0 leaves any other alone.
        side: of the windows in pixels of the image; halved with each level. 0 changes nothing.

    Raises:
        UserError: a network of another kind, in which no mean is known.
    """
    if not side:
        yield network
        return
    if not isinstance(network, NAFNet):
        raise UserError(f"local statistics: {type(network).__name__} is no NAFNet; leave them off")
    levels: list[tuple[int, Any]] = [*enumerate(network.encoder), (len(network.encoder), network.middle)]
    levels += enumerate(reversed(network.decoder))
    try:
        for level, blocks in levels:
            for block in blocks:
                block.window = max(side >> level, 1)
        yield network
    finally:
        for _, blocks in levels:
            for block in blocks:
                block.window = 0


def local_mean(features: Tensor, side: int) -> Tensor:
    """Mean over the square window around each pixel, moved inside at the borders; [N, C, H, W], or [N, C, 1, 1].

    Each axis is a difference of running sums, in float64: the same pixels give the same mean in a tile and in the whole
    image to within 1e-7. Four channels at a time, so that float64 does not decide how much memory is needed.
    """
    if side >= max(features.shape[-2:]):
        return F.adaptive_avg_pool2d(features, 1)
    means = torch.empty_like(features)
    for mean, some in zip(means.split(4, 1), features.split(4, 1), strict=True):
        mean.copy_(_sliding(_sliding(some, side, 3), side, 2))
    return means


def _sliding(x: Tensor, side: int, axis: int) -> Tensor:
    """Mean of the `side` values around each one along an axis, float64."""
    length = x.shape[axis]
    side = min(side, length)
    sums = F.pad(x.cumsum(axis, dtype=torch.float64), (1, 0) if axis == 3 else (0, 0, 1, 0))
    starts = (torch.arange(length, device=x.device) - (side - 1) // 2).clamp(0, length - side)
    return (sums.index_select(axis, starts + side) - sums.index_select(axis, starts)) / side


def _blocks(channels: int, count: int) -> Blocks:
    return Blocks(*(NAFBlock(channels) for _ in range(count)))
