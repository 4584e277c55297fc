"""Metrics of a derained image against its ground truth: PSNR and SSIM as the deraining papers report them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..config.rain_types import RAIN_TYPES

BEST_PSNR = 100.0  # given to equal images, so that averages and JSON stay finite
_WINDOW, _SIGMA = 11, 1.5


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio per image, in decibels.

    10 log10(1 / MSE) over all channels and pixels, after both images are rounded to 8 bits as they would be on
    disk; equal images, and whatever exceeds it, count 100 dB.

    Args:
        x, y: images, [N, C, H, W] in [0, 1]: RGB, or luma from `luma`.

    Returns:
        Decibels, [N], float64.

    Raises:
        ValueError: shapes that differ or are not [N, C, H, W].
    """
    x, y = _both(x, y)
    error = (x - y).square().mean(dim=(1, 2, 3))
    return (-10 * error.clamp_min(10 ** (-BEST_PSNR / 10)).log10()).clamp_max(BEST_PSNR)


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity per image (Wang et al., 2004), in [-1, 1].

    11 x 11 Gaussian window of sigma 1.5, only windows that lie inside the image, K1 = 0.01, K2 = 0.03; the mean over
    pixels, then over channels. Images are rounded to 8 bits first; computed in float64.

    Args:
        x, y: images, [N, C, H, W] in [0, 1], at least 11 pixels each way.

    Returns:
        Similarity, [N], float64.

    Raises:
        ValueError: shapes that differ, are not [N, C, H, W], or are smaller than the window.
    """
    x, y = _both(x, y)
    if min(x.shape[-2:]) < _WINDOW:
        raise ValueError(f"ssim needs images of at least {_WINDOW} pixels each way, got {list(x.shape)}")
    c1, c2 = 0.01**2, 0.03**2
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    var_x = _window_mean(x * x) - mean_x.square()
    var_y = _window_mean(y * y) - mean_y.square()
    covariance = _window_mean(x * y) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2))
    return similarity.mean(dim=(1, 2, 3))


def luma(image: Tensor) -> Tensor:
    """The Y of YCbCr, on which the deraining literature reports most of its figures.

    BT.601 studio range, as MATLAB's rgb2ycbcr gives it for 8-bit images:
    Y = 16 + 65.481 R + 128.553 G + 24.966 B on R, G, B in [0, 1], from the 8-bit image, rounded to an integer
    between 16 and 235, divided by 255.

    Args:
        image: RGB, [N, 3, H, W] in [0, 1].

    Returns:
        [N, 1, H, W], float64, in [16/255, 235/255].
    """
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(f"image must be [N, 3, H, W], got {list(image.shape)}")
    r, g, b = rounded_to_8_bits(image).unbind(1)
    return ((16 + 65.481 * r + 128.553 * g + 24.966 * b).round() / 255).unsqueeze(1)


def rounded_to_8_bits(image: Tensor) -> Tensor:
    """Round to the 8-bit values an image file would hold; float64 in [0, 1]."""
    return (image.detach().double().clamp(0, 1) * 255).round() / 255


def evaluate_pair(derained: Tensor, clean: Tensor) -> dict[str, float]:
    """The four figures of one image, or their means over a batch.

    Args:
        derained, clean: RGB, [N, 3, H, W] or [3, H, W], in [0, 1].

    Returns:
        `psnr_rgb`, `psnr_y` in decibels; `ssim_rgb`, `ssim_y`.
    """
    if derained.ndim == 3 and clean.ndim == 3:
        derained, clean = derained.unsqueeze(0), clean.unsqueeze(0)
    derained_y, clean_y = luma(derained), luma(clean)
    return {
        "psnr_rgb": psnr(derained, clean).mean().item(),
        "ssim_rgb": ssim(derained, clean).mean().item(),
        "psnr_y": psnr(derained_y, clean_y).mean().item(),
        "ssim_y": ssim(derained_y, clean_y).mean().item(),
    }


def average(figures: Iterable[dict[str, float]]) -> dict[str, float]:
    """Mean of each figure over images; every dict must have the same keys."""
    rows = list(figures)
    if not rows:
        raise ValueError("average needs the figures of at least one image")
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


def by_type(rows: Sequence[dict[str, float]], kinds: Sequence[str | None]) -> dict[str, float]:
    """Means of each figure over the images of a type, as `psnr_rgb_drs`; and how far the types' PSNR lie apart.

    Args:
        rows: figures of each image.
        kinds: its type; None where nothing tells it.

    Returns:
        {} where no type is told; from two types on the mean of the types' PSNR-RGB, `types_mean`, and the largest less
        the least, `types_spread`.
    """
    found: dict[str, float] = {}
    told = [kind for kind in RAIN_TYPES if kind in kinds]
    for kind in told:
        own = average(row for row, other in zip(rows, kinds, strict=True) if other == kind)
        found |= {f"{name}_{kind}": value for name, value in own.items()}
    levels = [found[f"psnr_rgb_{kind}"] for kind in told if f"psnr_rgb_{kind}" in found]
    if len(levels) > 1:
        found |= {"types_mean": sum(levels) / len(levels), "types_spread": max(levels) - min(levels)}
    return found


def fixed_filter(rainy: Tensor) -> Tensor:
    """The filter without learning that is printed beside results, to show what learning added.

    min(O, median of the 9 pixels of O around it in its row), per channel, borders mirrored with the edge
    repeated (scipy's `reflect`): bright streaks that cross a row are thinner than the window, and go.

    Args:
        rainy: [N, C, H, W] in [0, 1], at least 4 pixels wide.

    Returns:
        Filtered image, same shape.
    """
    reach = 4
    mirrored = torch.cat([rainy[..., :reach].flip(-1), rainy, rainy[..., -reach:].flip(-1)], dim=-1)
    rows = mirrored.unfold(3, 2 * reach + 1, 1)  # [N, C, H, W, 9]
    return torch.minimum(rainy, rows.median(dim=-1).values)


def _both(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if x.ndim != 4 or x.shape != y.shape:
        raise ValueError(f"images must have one shape [N, C, H, W], got {list(x.shape)} and {list(y.shape)}")
    return rounded_to_8_bits(x), rounded_to_8_bits(y)


def _window_mean(image: Tensor) -> Tensor:
    """Gaussian mean of every window inside the image: [N, C, H, W] -> [N, C, H - 10, W - 10].

    Shifted additions: 7 times faster than conv2d in float64 on a CPU core.
    """
    offset = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    weight = torch.exp(-offset.square() / (2 * _SIGMA**2))
    weights = (weight / weight.sum()).tolist()
    for axis in (2, 3):
        length = image.shape[axis] - _WINDOW + 1
        mean = image.narrow(axis, 0, length) * weights[0]
        for k in range(1, _WINDOW):
            mean.add_(image.narrow(axis, k, length), alpha=weights[k])
        image = mean
    return image
