"""Local statistics: what a network takes over a whole image, taken over windows, as in training it saw crops."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..ops import instance_norm_lrelu
from ..ops.instance_norm_lrelu import EPS

PER_CROP = 1.5  # side of the windows of local statistics by that of the training crops: NAFNet's in its authors' code
TOGETHER = 4  # channels at a time, so that float64 does not decide how much memory is needed


class Windowed:
    """A part of a network that looks at a whole image, or at windows around its pixels."""

    level = 0  # of its features, each of which halves the resolution
    window = 0  # side of its windows in pixels of its features; 0: the whole image, as in training


def has_windows(network: nn.Module) -> bool:
    """Whether local statistics are known of a network."""
    return any(isinstance(module, Windowed) for module in network.modules())


@contextlib.contextmanager
def local_statistics(network: nn.Module, side: int) -> Iterator[nn.Module]:
    """Let the statistics inside a network be those of windows and not of the whole image.

    The test-time local converter (Chu et al., "Improving Image Restoration by Revisiting Global Information
    Aggregation", ECCV 2022), whose windows for NAFNet are PER_CROP times the training crop. NAFNet's blocks are then
    composed of several ops; where features are no larger than a window nothing changes.

    Args:
        network: the derainer; 0 leaves any alone.
        side: of the windows in pixels of the image; halved with each level. 0 changes nothing.

    Raises:
        UserError: a network that takes no statistics, or none that are known.
    """
    if side and not has_windows(network):
        raise UserError(f"local statistics: none are known of {type(network).__name__}; leave them off")
    parts = [module for module in network.modules() if isinstance(module, Windowed)] if side else []
    try:
        for part in parts:
            part.window = max(side >> part.level, 1)
        yield network
    finally:
        for part in parts:
            part.window = 0


class InstanceNorm(nn.Module, Windowed):
    """`ops.instance_norm_lrelu`, or the same by the mean and variance of windows.

    Args:
        slope: of LeakyReLU; 0 is ReLU, 1 none.
        level: of its features.
    """

    def __init__(self, slope: float, level: int = 0) -> None:
        super().__init__()
        self.slope, self.level = slope, level

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same."""
        if not self.window or self.window >= max(x.shape[-2:]):
            return instance_norm_lrelu(x, self.slope)
        return F.leaky_relu(local_norm(x, self.window), self.slope)


def local_norm(features: Tensor, side: int, eps: float = EPS) -> Tensor:
    """(x - mean) / sqrt(variance + eps) by the square window around each pixel, moved inside at the borders.

    The variance is E x^2 - (E x)^2 in float64. [N, C, H, W] -> the same.
    """
    out = torch.empty_like(features)
    for normed, some in zip(out.split(TOGETHER, 1), features.split(TOGETHER, 1), strict=True):
        wide = some.double()
        mean = _window_mean(wide, side)
        variance = (_window_mean(wide.square(), side) - mean.square()).clamp(min=0)
        normed.copy_((wide - mean) / (variance + eps).sqrt())
    return out


def local_mean(features: Tensor, side: int) -> Tensor:
    """Mean over the square window around each pixel, moved inside at the borders; [N, C, H, W], or [N, C, 1, 1].

    Each axis is a difference of running sums, in float64: the same pixels give the same mean in a tile and in the whole
    image to within 1e-7.
    """
    if side >= max(features.shape[-2:]):
        return F.adaptive_avg_pool2d(features, 1)
    means = torch.empty_like(features)
    for mean, some in zip(means.split(TOGETHER, 1), features.split(TOGETHER, 1), strict=True):
        mean.copy_(_window_mean(some, side))
    return means


def _window_mean(x: Tensor, side: int) -> Tensor:
    return _sliding(_sliding(x, side, 3), side, 2)


def _sliding(x: Tensor, side: int, axis: int) -> Tensor:
    """Mean of the `side` values around each one along an axis, float64."""
    length = x.shape[axis]
    side = min(side, length)
    sums = F.pad(x.cumsum(axis, dtype=torch.float64), (1, 0) if axis == 3 else (0, 0, 1, 0))
    starts = (torch.arange(length, device=x.device) - (side - 1) // 2).clamp(0, length - side)
    return (sums.index_select(axis, starts + side) - sums.index_select(axis, starts)) / side
