"""Natural-scene statistics: how the locally normalised pixels of a photograph and their neighbours are distributed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..system.device import to_device
from . import _backends as backends
from . import _check as check
from ._taps import Taps, matlab_half, opencv_half

BLOCK = 96  # pixels, at full scale
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # (rows, columns) to the neighbour whose product with the pixel is fitted
# In a flat area a pixel is its local mean; rounding must not put it on one side of 0, where it would be counted.
LEVEL = 1e-9  # grey levels; whole ones differ by more than 1e-4 under the window
_UNIT = torch.tensor(1 / 255, dtype=torch.float32).item()
FLAT = 1e-10  # mean square of normalised pixels; one pixel of 96 x 96 that differs by one grey level gives 1e-5


class Form(NamedTuple):
    """In what published implementations differ. Rounding included: it decides on which side of 0 flat areas count."""

    grey: tuple[float, float, float]  # weights of red, green and blue
    resize: Literal["matlab", "plain"] = "matlab"  # to half scale: imresize, antialiased; or OpenCV's, which is not
    cyclic: bool = True  # beyond the border of a block lies its other side; else zeros, which count on neither side
    symmetric: bool = True  # over a whole image, the pixels themselves are fitted by one scale for both sides
    constant: float = 1.0  # added to the deviation
    gain: float = 1.0  # sum of the window's weights
    level: float = LEVEL
    single_grey: bool = False  # brightness is computed in float32
    single: bool = False  # all is computed in float32, of levels / 255


# MATLAB's rgb2gray in full: with 0.2989, 0.5870, 0.1140 other pixels are rounded up, and NIQE moves by up to 0.17.
MATLAB = Form((0.298936021293775, 0.587043074451121, 0.114020904255103))
# pyiqa's default. Its window is rounded to float32, so that the weights sum to a little more than 1.
YIQ = MATLAB._replace(grey=(0.299, 0.587, 0.114), gain=1 + 1.1350493878e-8, level=0.0, single_grey=True)
# OpenCV's weights are whole 1/32768.
OPENCV = Form(
    (9798 / 32768, 19235 / 32768, 3735 / 32768),
    *("plain", False, False),
    constant=1 / 255,
    level=0.0,
    single=True,
)


def nss_features(images: Tensor, block: int | None = BLOCK, form: Form = MATLAB) -> Tensor:
    """Describe images by 36 parameters of fitted distributions (Mittal et al.: NIQE, 2013; BRISQUE, 2012).

    At full and at half scale, with x the grey image in 0...255, rounded: n = (x - m) / (d + 1), where m and d are mean
    and deviation under a 7 x 7 Gaussian of sigma 7/6 with replicated borders. An asymmetric generalised Gaussian is
    fitted to n and to each product of n with one of four neighbours. In blocks, as NIQE wants them: shape and mean
    scale of n; shape, mean, left scale and right scale of each product. Over a whole image, as BRISQUE does: with
    variances for scales. n is computed in float64, because d comes of a difference of squares that float32 loses in
    flat areas, and kept in float32; `OPENCV` computes in float32 as OpenCV does, of x / 255 and with d + 1/255.

    Args:
        images: [N, 3, H, W], clamped to [0, 1]. What exceeds whole blocks at the right and bottom is left out.
        block: side of the blocks in pixels, even; None for one block that is the whole image.
        form: whose published implementation to follow: `MATLAB`, `YIQ` or `OPENCV`.

    Returns:
        [N, (H // block) * (W // block), 36] float64, or [N, 36] without blocks. The features of a block that is flat,
        or to which no such distribution can be fitted, are NaN. No gradient.

    Raises:
        TypeError, ValueError: images is not such a tensor, or block is odd.
    """
    check.image("images", images)
    if images.shape[1] != 3:
        raise ValueError(f"images must be [N, 3, H, W], got {list(images.shape)}")
    if not isinstance(form, Form):
        raise TypeError(f"form must be a Form such as MATLAB, got {type(form).__name__}")
    if block is not None:
        check.whole("block", block)
    if block is not None and (block < 2 or block % 2):
        raise ValueError(f"block must be even and positive, got {block}")
    if block is None and min(images.shape[2:]) < 2:
        raise ValueError(f"images must have two pixels a side at least, got {list(images.shape)}")
    if block is not None and (images.shape[2] // block) * (images.shape[3] // block) == 0:
        return images.new_zeros(len(images), 0, 36, dtype=torch.float64)
    if not (impl := backends.choose("nss_features", images)) or impl is backends.COMPILED:
        return reference(images.detach(), block, form)
    wide = images.detach().to(check.accumulate_dtype(images.dtype)).contiguous()
    features = impl.forward(wide, _layout(images, block, form), form, _shapes(images.device))
    return features if block else features[:, 0]


def reference(images: Tensor, block: int | None = BLOCK, form: Form = MATLAB) -> Tensor:
    """The definition, in plain PyTorch."""
    layout = _layout(images, block, form)
    full = grey(images[:, :, : layout.sizes[0][0], : layout.sizes[0][1]], form)
    features = [
        _block_features(_cut(normalise(x, form).pixels, side), form, layout.whole)
        for x, side in zip((full, halve(full, layout)), layout.blocks, strict=True)
    ]
    return torch.cat(features, dim=2) if block else torch.cat(features, dim=2)[:, 0]


def block_sharpness(images: Tensor, block: int = BLOCK) -> Tensor:
    """Mean local deviation of each block, [N, 3, H, W] in [0, 1] -> [N, blocks]: which blocks are in focus."""
    rows, columns = images.shape[2] // block, images.shape[3] // block
    full = grey(images[:, :, : rows * block, : columns * block], MATLAB)
    return _cut(normalise(full, MATLAB).deviation, (block, block)).mean((2, 3))


def grey(images: Tensor, form: Form) -> Tensor:
    """Brightness in whole grey levels: [N, 3, H, W], clamped to [0, 1] -> [N, H, W] float64 in 0...255.

    For `form.single` levels / 255, every number rounded to float32.
    """
    red, green, blue = images.double().clamp(0, 1).unbind(1)
    if form.single_grey:
        weights = [_single(torch.tensor(weight, dtype=torch.float64)) for weight in form.grey]
        luma = _single(_single(red) * weights[0])
        for part, weight in ((green, weights[1]), (blue, weights[2])):
            luma = _single(_single(part) * weight + luma)
        return _single(luma * 255).round()
    red, green, blue = 255 * red, 255 * green, 255 * blue
    levels = (form.grey[0] * red + form.grey[1] * green + form.grey[2] * blue).round()
    return _single(levels * _UNIT) if form.single else levels


class Normalised(NamedTuple):
    """Locally normalised pixels and the deviation they were divided by, [N, H, W] each."""

    pixels: Tensor
    deviation: Tensor


def normalise(x: Tensor, form: Form) -> Normalised:
    """Subtract the local mean and divide by the local deviation + constant: [N, H, W] grey levels."""
    if form.single:
        return _normalise_single(x, form)
    mean, square = _gaussian(torch.stack([x, x * x])) * form.gain
    deviation = square.addcmul_(mean, mean, value=-1).abs_().sqrt_()
    away = x - mean
    away = torch.where(away.abs() < form.level, 0.0, away)
    return Normalised((away / (deviation + form.constant)).float(), deviation)


def _normalise_single(x: Tensor, form: Form) -> Normalised:
    """The same in OpenCV's float32: along rows by fused multiply-adds, then down columns by pairs."""
    weights = _single(_window())
    along = F.pad(torch.stack([x, _single(x * x)]), (3, 3, 3, 3), mode="replicate")
    width = x.shape[2]
    total = _single(along[..., :width] * weights[0])
    for k in range(1, 7):
        total = _single(along[..., k : k + width] * weights[k] + total)
    rows = [total[:, :, k : k + x.shape[1]] for k in range(7)]
    total = _single(rows[3] * weights[3])
    for k in (1, 2, 3):
        total = _single(_single(rows[3 - k] + rows[3 + k]) * weights[3 + k] + total)
    mean, square = total
    deviation = _single(_single(square - _single(mean * mean)).sqrt())  # NaN where rounding made it negative
    constant = _single(torch.tensor(form.constant, dtype=torch.float64))
    pixels = _single(_single(x - mean) / _single(deviation + constant))
    return Normalised(torch.where(x.isfinite(), pixels.nan_to_num(nan=0.0), x).float(), deviation)


def _single(x: Tensor) -> Tensor:
    """Rounded to float32, kept as float64: a product and a sum of such numbers is rounded once, as fused ones are."""
    return x.float().double()


class Layout(NamedTuple):
    """Sizes in pixels, (rows, columns), at full and at half scale; and how half scale is made."""

    sizes: tuple[tuple[int, int], tuple[int, int]]  # of what is described
    blocks: tuple[tuple[int, int], tuple[int, int]]
    whole: bool  # one block, the whole image
    single: bool  # half scale is rounded to float32
    down: Taps  # along the columns
    across: Taps  # along the rows


def halve(x: Tensor, layout: Layout) -> Tensor:
    """[N, H, W] at full scale -> half scale."""
    half = layout.down.matrix(x.shape[1]) @ x @ layout.across.matrix(x.shape[2]).T
    return _single(half) if layout.single else half


def _layout(images: Tensor, block: int | None, form: Form) -> Layout:
    height, width = images.shape[2:]
    if block is not None:
        height, width = height // block * block, width // block * block
    taps = matlab_half if form.resize == "matlab" else opencv_half
    down, across = (taps(size, images.device) for size in (height, width))
    half = len(down.place), len(across.place)
    blocks = ((height, width), half) if block is None else ((block, block), (block // 2, block // 2))
    return Layout(((height, width), half), blocks, block is None, form.single, down, across)


def _gaussian(x: Tensor) -> Tensor:
    """7 x 7 Gaussian of sigma 7/6, borders replicated: [2, N, H, W]."""
    weights = _window().tolist()
    padded = F.pad(x, (3, 3, 3, 3), mode="replicate")
    return _correlate(_correlate(padded, weights, 2), weights, 3)


def _window() -> Tensor:
    """[7] float64, of sum 1."""
    weights = torch.exp(-0.5 * (torch.arange(-3.0, 4.0, dtype=torch.float64) / (7 / 6)) ** 2)
    return weights / weights.sum()


def _correlate(x: Tensor, weights: Sequence[float], dim: int) -> Tensor:
    """Correlate along one side, valid part only."""
    size = x.shape[dim] - len(weights) + 1
    total = x.narrow(dim, 0, size) * weights[0]
    for shift, weight in enumerate(weights[1:], 1):
        total.add_(x.narrow(dim, shift, size), alpha=weight)
    return total


def _cut(x: Tensor, block: tuple[int, int]) -> Tensor:
    """[N, H, W] -> [N, blocks, rows, columns], row by row."""
    images, height, width = x.shape
    rows, columns = block
    blocks = x.reshape(images, height // rows, rows, width // columns, columns).transpose(2, 3)
    return blocks.reshape(images, -1, rows, columns)


def _block_features(pixels: Tensor, form: Form, whole: bool) -> Tensor:
    """[N, blocks, rows, columns] normalised pixels -> [N, blocks, 18]."""
    power = 2 if whole else 1  # variances in place of scales
    shape, left, right, _ = _fit(pixels, whole, symmetric=whole and form.symmetric)
    features = [shape, (left**power + right**power) / 2]
    for shift in SHIFTS:
        shape, left, right, mean = _fit(pixels * _neighbour(pixels, shift, form.cyclic), whole)
        features += [shape, mean, left**power, right**power]
    return torch.stack(features, dim=2)


def _neighbour(pixels: Tensor, shift: tuple[int, int], cyclic: bool) -> Tensor:
    """Each pixel's neighbour before it by that many rows and columns, beyond the border by the other side or zeros."""
    rolled = pixels.roll(shift, (2, 3))
    if not cyclic:
        rolled[:, :, : shift[0]] = 0
        edge = slice(0, 1) if shift[1] == 1 else slice(-1, None) if shift[1] == -1 else slice(0, 0)
        rolled[:, :, :, edge] = 0
    return rolled


def _fit(x: Tensor, whole: bool, symmetric: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fit an asymmetric generalised Gaussian to each block by its moments (Lasmar et al., 2009).

    Args:
        x: [N, blocks, rows, columns].
        whole: give deviations in place of scales.
        symmetric: fit one deviation for both sides.

    Returns:
        Shape, left scale, right scale and mean, [N, blocks] each.
    """
    x = x.flatten(2)
    below, above = x.clamp_max(0), x.clamp_min(0)
    squares_below, squares_above = below.square().sum(2).double(), above.square().sum(2).double()
    square = (squares_below + squares_above) / x.shape[2]
    absolute = x.abs().sum(2).double() / x.shape[2]
    deviation_below = square.sqrt() if symmetric else (squares_below / (x < 0).sum(2)).sqrt()
    deviation_above = square.sqrt() if symmetric else (squares_above / (x > 0).sum(2)).sqrt()
    skew = deviation_below / deviation_above
    ratio = absolute**2 / square * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    ratio = torch.where(square > FLAT, ratio, torch.nan)

    grid = _shapes(x.device)
    index = torch.bucketize(ratio, grid.between).clamp_max(len(grid.shape) - 1)
    shape = torch.where(ratio.isfinite(), grid.shape[index], torch.nan)
    left, right = deviation_below * grid.scale[index], deviation_above * grid.scale[index]
    mean = (right - left) * grid.centre[index]
    return (shape, deviation_below, deviation_above, mean) if whole else (shape, left, right, mean)


class Shapes(NamedTuple):
    """The shapes tried, 0.2, 0.201, ... 10, and what follows from each, [9801] float64."""

    shape: Tensor
    between: Tensor  # [9800] moment ratios half-way to the next shape's: E|x|^2 / E[x^2] grows with the shape
    scale: Tensor  # sqrt(gamma(1 / a) / gamma(3 / a)), scale over deviation
    centre: Tensor  # gamma(2 / a) / gamma(1 / a), mean over (right scale - left scale)


@lru_cache(maxsize=8)
def _shapes(device: torch.device) -> Shapes:
    shape = 0.2 + 0.001 * torch.arange(9801, dtype=torch.float64)
    one, two, three = (torch.lgamma(k / shape) for k in (1, 2, 3))
    ratio = torch.exp(2 * two - one - three)
    tables = shape, (ratio[1:] + ratio[:-1]) / 2, torch.exp((one - three) / 2), torch.exp(two - one)
    return Shapes(*(to_device(table, device) for table in tables))
