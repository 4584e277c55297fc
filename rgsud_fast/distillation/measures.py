"""Measures of a pair that specialists judge by: of target, of rain, of how they belong together, of rain that remains.

All are taken on one window of at most 256 x 256 pixels in the middle, so that pairs of any size cost the same.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data import to_batch
from ..data.pairs import middle_of

SIDE = 256  # pixels of the window
FAR = 60  # pixels from which on rain does not look like itself: a pattern that does was pasted
LOW = 31  # pixels of the box that leaves low frequencies alone
TINY = 1e-4

TARGET = ("sharpness", "sharp tail", "blocks of 8", "contrast of detail", "kurtosis of detail", "flat share")
RAIN = (
    *(
        "chroma",
        "red over green",
        "blue over green",
        "dark share",
        "low-frequency share",
        "repetition",
        "strength",
        "peaks",
        "sharpness",
        "saturation",
    ),
    "distance to the references",
)
PAIR = (
    *("likeness where it is dry", "phase at 0", "phase elsewhere", "gradients"),
    *("low-frequency change", "its colour"),
)
REMAINS = ("detail of the target in the rain", "fine rain in the target", "coarse rain in the target")
SPECIALISTS = {"target": TARGET, "rain": RAIN, "pair": PAIR, "remains": REMAINS}


@torch.no_grad()
def measure(
    rainy: np.ndarray, target: np.ndarray, distance: float, device: torch.device | str = "cpu"
) -> dict[str, np.ndarray]:
    """Measure a pair.

    Args:
        rainy, target: uint8 [H, W, 3], of equal size; their windows are looked at.
        distance: of the rainy image's detail to that of its references, see `detail`.
        device: where to compute.

    Returns:
        For each specialist its measures as `SPECIALISTS` names them, float64 [n].
    """
    x, t = (to_batch(middle_of(image, SIDE), device) for image in (rainy, target))
    found = {"target": _of_target(t), "rain": _of_rain(x, t), "pair": _of_pair(x, t), "remains": _of_remains(x, t)}
    measured = {name: torch.stack(values).double().cpu().numpy() for name, values in found.items()}
    return measured | {"rain": np.append(measured["rain"], distance)}


@torch.no_grad()
def detail(lumas: Tensor) -> Tensor:
    """High-pass statistics, by which the rain of photographs is compared whatever the scene.

    Args:
        lumas: [N, 1, H, W] in [0, 1].

    Returns:
        [N, 12]: at three scales, the logarithms of deviation and kurtosis of what a 3 x 3 box takes away, and of the
        shares of differences along rows and along diagonals.
    """
    found = []
    for _ in range(3):
        high = lumas - _box(lumas, 3)
        power = high.square().mean((1, 2, 3))
        across, down = (d.square().mean((1, 2, 3)) for d in (_along(lumas, 0, 1), _along(lumas, 1, 0)))
        rising, falling = (d.square().mean((1, 2, 3)) for d in (_along(lumas, 1, -1), _along(lumas, 1, 1)))
        kurtosis = high.pow(4).mean((1, 2, 3)) / (power + TINY**2).square()
        found += [
            0.5 * _log(power),
            _log(kurtosis),
            _log(across / (down + TINY**2)),
            _log(rising / (falling + TINY**2)),
        ]
        lumas = F.avg_pool2d(lumas, 2)
    return torch.stack(found, 1)


def grey(images: Tensor) -> Tensor:
    """Luma, [N, 3, H, W] -> [N, 1, H, W]."""
    return (images * images.new_tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _of_target(target: Tensor) -> list[Tensor]:
    luma = grey(target)
    edges = _laplacian(luma).abs()
    mean = _box(luma, 7)
    deviation = (_box(luma * luma, 7) - mean * mean).clamp_min(0).sqrt()
    normal = (luma - mean) / (deviation + 1 / 255)
    power = normal.square().mean()
    return [
        _log(edges.mean()),
        _log(_quantile(edges, 0.99) / (edges.mean() + TINY)),
        torch.maximum(_blocks(luma), _blocks(luma.transpose(2, 3))),
        power.sqrt(),
        _log(normal.pow(4).mean() / (power.square() + TINY)),
        (deviation < 1 / 255).float().mean(),
    ]


def _of_rain(rainy: Tensor, target: Tensor) -> list[Tensor]:
    rain = rainy - target
    luma = grey(rain)
    size = rain.abs().mean() + TINY
    red, green, blue = _log(rain.square().mean((0, 2, 3)).sqrt())
    return [
        (rain - rain.mean(1, keepdim=True)).abs().mean() / size,
        red - green,
        blue - green,
        (-rain).clamp_min(0).mean() / size,
        _low(luma).abs().mean() / size,
        _repetition(luma),
        _log(size),
        _log(_quantile(luma.abs(), 0.995) / size),
        _log(_laplacian(luma).abs().mean() / size),
        (rainy >= 254 / 255).float().mean(),
    ]


def _of_pair(rainy: Tensor, target: Tensor) -> list[Tensor]:
    x, t = grey(rainy), grey(target)
    rain = x - t
    dry = rain.abs() <= rain.abs().median()
    at_zero, elsewhere = _phase(x, t)
    low = _low(rainy - target)
    gradients = [_correlation(_along(x, *way), _along(t, *way)) for way in ((0, 1), (1, 0))]
    return [
        _log(1 - _correlation(x[dry], t[dry])),
        at_zero,
        elsewhere,
        sum(gradients, x.new_zeros(())) / 2,
        _log(low.abs().mean()),
        _log((low - low.mean(1, keepdim=True)).abs().mean()),
    ]


def _of_remains(rainy: Tensor, target: Tensor) -> list[Tensor]:
    t = grey(target)
    rain = grey(rainy) - t
    alike = _correlation(rain - _box(rain, 5), t - _box(t, 5))
    return [alike, *(_left(rain, t, side) for side in (5, 31))]


def _left(rain: Tensor, target: Tensor, side: int) -> Tensor:
    """How much of the rain the target has: the slope of its detail over the rain's, by weighted least squares.

    A target with a share a of the rain left in it has a slope of a / (1 - a), whatever the scene; where the scene has
    little detail of its own, most can be told, and such places weigh most.
    """
    high_rain, high_target = rain - _box(rain, side), target - _box(target, side)
    weight = 1 / (_box(high_target.square(), 2 * side + 1) + (2 / 255) ** 2)
    return (weight * high_rain * high_target).sum() / ((weight * high_rain.square()).sum() + TINY)


def _phase(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Phase correlation where the two lie as they are, and its highest value where one is moved, both in 0...1."""
    spectrum = torch.fft.rfft2(x - _box(x, 5)) * torch.fft.rfft2(t - _box(t, 5)).conj()
    found = torch.fft.irfft2(spectrum / (spectrum.abs() + 1e-6), s=x.shape[-2:])[0, 0]
    at_zero = found[0, 0].clone()
    found[0, 0] = 0
    return at_zero, found.max()


def _repetition(luma: Tensor) -> Tensor:
    """The highest autocorrelation at more than 60 pixels, where rain is a stranger to itself."""
    high = luma - _box(luma, 15)
    height, width = high.shape[-2:]
    spectrum = torch.fft.rfft2(F.pad(high, (0, width, 0, height)))
    found = torch.fft.irfft2(spectrum.abs().square(), s=(2 * height, 2 * width))[0, 0]
    rows = torch.arange(2 * height, device=luma.device)
    columns = torch.arange(2 * width, device=luma.device)
    rows, columns = torch.minimum(rows, 2 * height - rows), torch.minimum(columns, 2 * width - columns)
    overlap = (height - rows).clamp_min(0)[:, None] * (width - columns).clamp_min(0) / (height * width)
    far = (rows[:, None].square() + columns.square() >= FAR**2) & (overlap >= 0.25)  # less says little
    likeness = found / (overlap.clamp_min(0.25) * (found[0, 0] + TINY**2))
    return likeness[far].max() if bool(far.any()) else luma.new_zeros(())


def _blocks(luma: Tensor) -> Tensor:
    """How much larger steps are between columns 8 pixels apart, at the phase where they are largest: JPEG's grid."""
    steps = (luma[..., 2:-1] - luma[..., 1:-2]).abs() - 0.5 * (
        (luma[..., 1:-2] - luma[..., :-3]).abs() + (luma[..., 3:] - luma[..., 2:-1]).abs()
    )
    means = torch.stack([steps[..., phase::8].clamp(-0.05, 0.05).mean() for phase in range(8)])
    return (means.max() - means.median()) / (steps.abs().mean() + TINY)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(), b - b.mean()
    return (a * b).mean() / ((a.square().mean() * b.square().mean()).sqrt() + TINY**2)


def _along(images: Tensor, down: int, right: int) -> Tensor:
    """Differences to the neighbour `down` rows below and `right` columns to the right."""
    images = images if right >= 0 else images.flip(3)
    height, width = images.shape[-2:]
    return images[..., down:, abs(right) :] - images[..., : height - down, : width - abs(right)]


def _laplacian(luma: Tensor) -> Tensor:
    middle = 4 * luma[..., 1:-1, 1:-1]
    beside = luma[..., 1:-1, :-2] + luma[..., 1:-1, 2:]
    return middle - beside - luma[..., :-2, 1:-1] - luma[..., 2:, 1:-1]


def _box(images: Tensor, side: int) -> Tensor:
    """Mean over side x side pixels, of those that there are at the borders."""
    half = side // 2
    rows = F.avg_pool2d(images, (side, 1), 1, (half, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, side), 1, (0, half), count_include_pad=False)


def _low(images: Tensor) -> Tensor:
    """Low frequencies, at every eighth pixel: each box overlaps its neighbours by three quarters."""
    return F.avg_pool2d(images, LOW, 8, LOW // 2, count_include_pad=False)


def _quantile(values: Tensor, share: float) -> Tensor:
    flat = values.flatten()
    return flat.kthvalue(max(round(share * flat.numel()), 1)).values


def _log(value: Tensor) -> Tensor:
    return (value + TINY).log()
