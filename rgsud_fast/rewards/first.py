"""First rewards: what a photograph shows once its bright streaks of one direction are taken away, without training."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..iqa.metrics import fixed_filter

REACH = 4  # pixels to each side of the lines that streaks are looked for along: 9 pixels
TURN = 45  # largest angle of rain from the vertical, degrees
COARSE, FINE, SPREAD = 10, 5, 10  # steps in which directions are tried, and how far streaks depart from theirs, degrees
THRESHOLD = 0.02  # least light of a streak, of white
SMALLEST = 2 * REACH  # pixels each way, for the mirrored borders
ALONG = 6  # pixels to each side along the streaks over which their light is averaged
KINDS = ("oriented", "fills", "filter")
AT_ONCE = 2**15  # pixels that are filled together: 80 MB


def first_reward(rainy: Tensor, kind: str = "oriented") -> Tensor:
    """What a rainy photograph shows without its streaks, by one of the kinds of `reward.first`.

    `oriented`: without the layer of `oriented_layer`, clamped. `fills`: by `fill` where that layer is. `filter`: by
    `iqa.metrics.fixed_filter`, which also takes fine texture.

    Args:
        rainy: photographs, [N, 3, H, W] in [0, 1], at least 8 pixels each way.
        kind: one of these.

    Returns:
        [N, 3, H, W].

    Raises:
        ValueError: rainy is no such tensor, or kind is none of these.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if kind == "filter":
        return fixed_filter(rainy)
    layer = oriented_layer(rainy)
    without = (rainy - layer).clamp(0, 1)
    return without if kind == "oriented" else fill(rainy, layer > 0, without)


def fill(rainy: Tensor, mask: Tensor, otherwise: Tensor) -> Tensor:
    """Masked pixels by what lies around them: per channel the median of the unmasked pixels of their 9 x 9 window.

    It is what the median of images tends to whose masked pixels each copy a random unmasked one of their window
    (SRL-Derain draws 50), without the draws. Rain adds light, so no pixel gets brighter.

    Args:
        rainy: photographs, [N, 3, H, W] in [0, 1].
        mask: where they are masked, [N, 1, H, W] bool.
        otherwise: what masked pixels become in whose window none is unmasked, [N, 3, H, W].

    Returns:
        [N, 3, H, W].
    """
    width, side = rainy.shape[-1] + 2 * REACH, 2 * REACH + 1
    open_pixels = torch.where(mask, math.inf, rainy)
    padded = F.pad(open_pixels, (REACH,) * 4, value=math.inf).flatten(2)  # [N, 3, pixels]
    steps = torch.arange(side, device=rainy.device)
    around = (steps[:, None] * width + steps).flatten()
    filled = rainy.clone()
    for places in mask[:, 0].nonzero().split(AT_ONCE):
        n, top, left = places.unbind(1)
        pixels = (top * width + left)[:, None] + around
        windows = padded[n[:, None], :, pixels].sort(dim=1).values  # [pixels, 81, 3]
        count = windows[..., 0].isfinite().sum(1)
        middle = windows.gather(1, ((count - 1).clamp(min=0) // 2)[:, None, None].expand(-1, 1, 3))[:, 0]
        middle = torch.where(count[:, None] > 0, middle, otherwise[n, :, top, left])
        filled[n, :, top, left] = torch.minimum(middle, rainy[n, :, top, left])
    return filled


def oriented_layer(rainy: Tensor) -> Tensor:
    """The light of streaks that run in a photograph's own direction, grey and nowhere negative. No gradient.

    With g the least of the three channels, b = max(g - median of 9 pixels of its row, 0) and w the same with the median
    of every second of 17 pixels, which wider streaks pass: where an opening of b along lines of 9 pixels exceeds 0.02,
    grown by a pixel, the layer is min(w, mean of w over 13 pixels along the direction), else 0. Lines lie within 10
    degrees of the direction, the one between -45 and 45 degrees from the vertical whose opening is brightest on
    average. Rain that falls in several directions is found in the strongest alone.

    Args:
        rainy: photographs, [N, 3, H, W] in [0, 1], at least 8 pixels each way.

    Returns:
        [N, 1, H, W], in the dtype of rainy. The host waits for each image's direction.

    Raises:
        ValueError: rainy is no such tensor.
    """
    if rainy.ndim != 4 or rainy.shape[1] != 3 or min(rainy.shape[2:]) < SMALLEST:
        raise ValueError(f"rainy must be [N, 3, H, W] of {SMALLEST} pixels at least, got {list(rainy.shape)}")
    return torch.stack([_layer(image.amin(0)) for image in rainy.detach()])[:, None]


def _layer(darkest: Tensor) -> Tensor:
    """[H, W] -> [H, W]."""
    direction, opening = _streaks((darkest - _row_median(darkest, REACH)).clamp(min=0))
    light = (darkest - _row_median(darkest, REACH, 2)).clamp(min=0)  # of streaks twice as wide
    mask = F.max_pool2d((opening > THRESHOLD).to(light)[None], (3, 1), 1, (1, 0))
    mask = torch.maximum(mask, F.max_pool2d((opening > THRESHOLD).to(light)[None], (1, 3), 1, (0, 1)))[0]
    return torch.minimum(light, _line_mean(light, direction)) * mask


def _streaks(bright: Tensor) -> tuple[int, Tensor]:
    """The direction of the streaks, degrees from the vertical, and the opening along lines near it; the largest."""
    openings: dict[int, Tensor] = {}

    def brightness(angle: int) -> float:
        if angle not in openings:
            openings[angle] = _opening(bright, angle)
        return float(openings[angle].mean())

    coarse = max(range(-TURN + FINE, TURN, COARSE), key=brightness)
    direction = max(range(coarse - FINE, coarse + FINE + 1, FINE), key=brightness)
    near = [angle for angle in range(direction - SPREAD, direction + SPREAD + 1, FINE) if abs(angle) <= TURN]
    for angle in near:
        brightness(angle)
    return direction, torch.stack([openings[angle] for angle in near]).amax(0)


def _opening(image: Tensor, angle: int) -> Tensor:
    """Greyscale opening along a line: what is as bright all along some line of 9 pixels through a pixel."""
    eroded = _along(image, angle, torch.minimum, math.inf)
    return _along(eroded, angle, torch.maximum, -math.inf)


def _along(image: Tensor, angle: int, combine, border: float) -> Tensor:
    padded = F.pad(image, (REACH,) * 4, value=border)
    shifted = [_shift(padded, REACH, *offset, image.shape) for offset in _line(angle, REACH)]
    out = combine(shifted[0], shifted[1])
    for other in shifted[2:]:
        combine(out, other, out=out)
    return out


def _line_mean(image: Tensor, angle: int) -> Tensor:
    """Mean of 13 pixels along a line; the image is mirrored at its borders."""
    padded = F.pad(image[None, None], (ALONG,) * 4, mode="reflect")[0, 0]
    total = torch.zeros_like(image)
    for offset in _line(angle, ALONG):
        total += _shift(padded, ALONG, *offset, image.shape)
    return total / (2 * ALONG + 1)


def _line(angle: int, reach: int) -> list[tuple[int, int]]:
    """Rows and columns of the pixels of a line through the origin."""
    down, right = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return [(round(k * down), round(k * right)) for k in range(-reach, reach + 1)]


def _shift(padded: Tensor, reach: int, down: int, right: int, shape: torch.Size) -> Tensor:
    return padded[reach + down : reach + down + shape[0], reach + right : reach + right + shape[1]]


def _row_median(image: Tensor, reach: int, stride: int = 1) -> Tensor:
    """Median of 2 * reach + 1 pixels of a row, `stride` apart; the row is mirrored at its ends, each pixel repeated.

    A network of exchanges between shifted rows: a tenth of the time of `median` over windows, and the same numbers.
    """
    border = reach * stride
    mirrored = torch.cat([image[:, :border].flip(1), image, image[:, -border:].flip(1)], 1)
    wires = list(mirrored.unfold(1, image.shape[1], stride).unbind(1))
    for low, high in _exchanges(len(wires)):
        wires[low], wires[high] = torch.minimum(wires[low], wires[high]), torch.maximum(wires[low], wires[high])
    return wires[reach]


@lru_cache
def _exchanges(count: int) -> list[tuple[int, int]]:
    """Batcher's odd-even merge sort of `count` wires (1968), without the exchanges that do not reach the middle one."""
    steps = []
    block = 1
    while block < count:
        stride = block
        while stride:
            for first in range(stride % block, count - stride, 2 * stride):
                for low in range(first, min(first + stride, count - stride)):
                    if low // (2 * block) == (low + stride) // (2 * block):
                        steps.append((low, low + stride))
            stride //= 2
        block *= 2
    needed, kept = {count // 2}, []
    for step in reversed(steps):
        if needed & set(step):
            needed |= set(step)
            kept.append(step)
    return kept[::-1]
