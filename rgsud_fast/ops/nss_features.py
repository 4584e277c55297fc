"""Natural-scene statistics: how the locally normalised pixels of a photograph and their neighbours are distributed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _backends as backends
from . import _check as check

BLOCK = 96  # pixels, at full scale
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # (rows, columns) to the neighbour whose product with the pixel is fitted
# MATLAB's rgb2gray in full: with 0.2989, 0.5870, 0.1140 other pixels are rounded up, and NIQE moves by up to 0.17.
GREY = (0.298936021293775, 0.587043074451121, 0.114020904255103)
# In a flat area a pixel is its local mean; rounding must not put it on one side of 0, where it would be counted.
LEVEL = 1e-9  # grey levels; whole ones differ by more than 1e-4 under the window
FLAT = 1e-10  # mean square of normalised pixels; one pixel of 96 x 96 that differs by one grey level gives 1e-5


def nss_features(images: Tensor, block: int = BLOCK) -> Tensor:
    """Describe each block of each image by 36 parameters of fitted distributions (Mittal et al., NIQE, 2013).

    At full and at half scale, with x the grey image in 0...255, rounded: n = (x - m) / (d + 1), where m and d are mean
    and deviation under a 7 x 7 Gaussian of sigma 7/6 with replicated borders. An asymmetric generalised Gaussian is
    fitted to n (shape, mean scale) and to each product of n with a neighbour, cyclic within the block (shape, mean,
    left scale, right scale): 18 parameters. Half scale is MATLAB's antialiased bicubic. n is computed in float64,
    because d comes of a difference of squares that float32 loses in flat areas, and kept in float32.

    Args:
        images: [N, 3, H, W] in [0, 1]. What exceeds whole blocks at the right and bottom is left out.
        block: side of the blocks in pixels, even.

    Returns:
        [N, (H // block) * (W // block), 36] float64. The features of a block that is flat, or to which no such
        distribution can be fitted, are NaN. No gradient.

    Raises:
        TypeError, ValueError: images is not such a tensor, or block is odd.
    """
    check.image("images", images)
    if images.shape[1] != 3:
        raise ValueError(f"images must be [N, 3, H, W], got {list(images.shape)}")
    if block < 2 or block % 2:
        raise ValueError(f"block must be even and positive, got {block}")
    if (images.shape[2] // block) * (images.shape[3] // block) == 0:
        return images.new_zeros(len(images), 0, 36, dtype=torch.float64)
    if not (impl := backends.choose("nss_features", images)) or impl is backends.COMPILED:
        return reference(images, block)
    wide = images.detach().to(check.accumulate_dtype(images.dtype)).contiguous()
    return impl.forward(wide, block, _shapes(images.device))


def reference(images: Tensor, block: int = BLOCK) -> Tensor:
    """The definition, in plain PyTorch."""
    rows, columns = images.shape[2] // block, images.shape[3] // block
    full = grey(images[:, :, : rows * block, : columns * block])
    scales = ((full, block), (halve(full), block // 2))
    return torch.cat([_block_features(_cut(normalise(x).pixels, side)) for x, side in scales], dim=2)


def block_sharpness(images: Tensor, block: int = BLOCK) -> Tensor:
    """Mean local deviation of each block, [N, 3, H, W] in [0, 1] -> [N, blocks]: which blocks are in focus."""
    rows, columns = images.shape[2] // block, images.shape[3] // block
    full = grey(images[:, :, : rows * block, : columns * block])
    return _cut(normalise(full).deviation, block).mean((2, 3))


def grey(images: Tensor) -> Tensor:
    """Brightness in whole grey levels as MATLAB sees it: [N, 3, H, W] in [0, 1] -> [N, H, W] float64 in 0...255."""
    red, green, blue = images.double().mul(255).unbind(1)
    return (GREY[0] * red + GREY[1] * green + GREY[2] * blue).round()


class Normalised(NamedTuple):
    """Locally normalised pixels and the deviation they were divided by, [N, H, W] each."""

    pixels: Tensor
    deviation: Tensor


def normalise(x: Tensor) -> Normalised:
    """Subtract the local mean and divide by the local deviation + 1: [N, H, W] in 0...255."""
    mean, square = _gaussian(torch.stack([x, x * x]))
    deviation = square.addcmul_(mean, mean, value=-1).abs_().sqrt_()
    away = x - mean
    away = torch.where(away.abs() < LEVEL, 0.0, away)
    return Normalised((away / (deviation + 1)).float(), deviation)


def halve(x: Tensor) -> Tensor:
    """MATLAB's imresize(x, 0.5): bicubic (a = -0.5) stretched to 8 taps, mirrored borders; [N, H, W]."""
    return _halving(x.shape[1], x) @ x @ _halving(x.shape[2], x).T


def _gaussian(x: Tensor) -> Tensor:
    """7 x 7 Gaussian of sigma 7/6, borders replicated: [2, N, H, W]."""
    weights = torch.exp(-0.5 * (torch.arange(-3.0, 4.0, dtype=torch.float64) / (7 / 6)) ** 2)
    weights = (weights / weights.sum()).tolist()
    padded = F.pad(x, (3, 3, 3, 3), mode="replicate")
    return _weighted(_weighted(padded, weights, 2), weights, 3)


def _weighted(x: Tensor, weights: Sequence[float], dim: int) -> Tensor:
    """Correlate along one side, valid part only."""
    size = x.shape[dim] - len(weights) + 1
    total = x.narrow(dim, 0, size) * weights[0]
    for shift, weight in enumerate(weights[1:], 1):
        total.add_(x.narrow(dim, shift, size), alpha=weight)
    return total


def _halving(size: int, like: Tensor) -> Tensor:
    """The [ceil(size / 2), size] matrix that halves one side."""
    out = (size + 1) // 2
    centre = 2 * torch.arange(out, dtype=torch.float64)[:, None] + 0.5
    tap = (2 * torch.arange(out)[:, None] - 3) + torch.arange(8)  # [out, 8]
    away = ((tap - centre) / 2).abs()
    near = (1.5 * away - 2.5) * away**2 + 1
    far = ((-0.5 * away + 2.5) * away - 4) * away + 2
    weight = torch.where(away <= 1, near, torch.where(away <= 2, far, 0.0))
    weight = weight / weight.sum(1, keepdim=True)
    mirrored = tap.remainder(2 * size)
    mirrored = torch.where(mirrored < size, mirrored, 2 * size - 1 - mirrored)
    matrix = torch.zeros(out, size, dtype=torch.float64).scatter_add_(1, mirrored, weight)
    return matrix.to(like)


def _cut(x: Tensor, side: int) -> Tensor:
    """[N, H, W] -> [N, blocks, side, side], row by row."""
    images, height, width = x.shape
    blocks = x.reshape(images, height // side, side, width // side, side).transpose(2, 3)
    return blocks.reshape(images, -1, side, side)


def _block_features(pixels: Tensor) -> Tensor:
    """[N, blocks, side, side] normalised pixels -> [N, blocks, 18]."""
    shape, left, right, _ = _fit(pixels)
    features = [shape, (left + right) / 2]
    for shift in SHIFTS:
        shape, left, right, mean = _fit(pixels * pixels.roll(shift, (2, 3)))
        features += [shape, mean, left, right]
    return torch.stack(features, dim=2)


def _fit(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fit an asymmetric generalised Gaussian to each block by its moments (Lasmar et al., 2009).

    Args:
        x: [N, blocks, side, side].

    Returns:
        Shape, left scale, right scale and mean, [N, blocks] each.
    """
    x = x.flatten(2)
    below, above = x.clamp_max(0), x.clamp_min(0)
    squares_below, squares_above = below.square().sum(2).double(), above.square().sum(2).double()
    deviation_below = (squares_below / (x < 0).sum(2)).sqrt()
    deviation_above = (squares_above / (x > 0).sum(2)).sqrt()
    square = (squares_below + squares_above) / x.shape[2]
    absolute = x.abs().sum(2).double() / x.shape[2]
    skew = deviation_below / deviation_above
    ratio = absolute**2 / square * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    ratio = torch.where(square > FLAT, ratio, torch.nan)

    grid = _shapes(x.device)
    index = torch.bucketize(ratio, grid.between).clamp_max(len(grid.shape) - 1)
    shape = torch.where(ratio.isfinite(), grid.shape[index], torch.nan)
    left, right = deviation_below * grid.scale[index], deviation_above * grid.scale[index]
    return shape, left, right, (right - left) * grid.centre[index]


class _Shapes(NamedTuple):
    """The shapes tried, 0.2, 0.201, ... 10, and what follows from each, [9801] float64."""

    shape: Tensor
    between: Tensor  # [9800] moment ratios half-way to the next shape's: E|x|^2 / E[x^2] grows with the shape
    scale: Tensor  # sqrt(gamma(1 / a) / gamma(3 / a)), scale over deviation
    centre: Tensor  # gamma(2 / a) / gamma(1 / a), mean over (right scale - left scale)


@lru_cache(maxsize=8)
def _shapes(device: torch.device) -> _Shapes:
    shape = 0.2 + 0.001 * torch.arange(9801, dtype=torch.float64)
    one, two, three = (torch.lgamma(k / shape) for k in (1, 2, 3))
    ratio = torch.exp(2 * two - one - three)
    tables = shape, (ratio[1:] + ratio[:-1]) / 2, torch.exp((one - three) / 2), torch.exp(two - one)
    return _Shapes(*(table.to(device) for table in tables))
