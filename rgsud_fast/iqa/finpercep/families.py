"""Families of faults: what derainers do to an image, each a function of the clean crop, its rain and a generator.

A fault that is in none of them is not seen by the score, and so may be rewarded: add a family here for each new one.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from PIL import Image
from scipy import ndimage

Rng: TypeAlias = np.random.Generator
Family: TypeAlias = Callable[[np.ndarray, np.ndarray, Rng], np.ndarray]  # clean, rainy [H, W, 3] in [0, 1] -> result


def rainy_itself(clean: np.ndarray, rainy: np.ndarray, rng: Rng) -> np.ndarray:
    """Nothing is removed."""
    return rainy


def row_median(clean: np.ndarray, rainy: np.ndarray, rng: Rng) -> np.ndarray:
    """min(O, median 1 x 9): upright streaks go, and fine texture with them."""
    return np.minimum(rainy, ndimage.median_filter(rainy, (1, 9, 1)))


def median(clean: np.ndarray, rainy: np.ndarray, rng: Rng) -> np.ndarray:
    """A median of 5 x 5."""
    return ndimage.median_filter(rainy, (5, 5, 1))


def smooth(clean: np.ndarray, rainy: np.ndarray, rng: Rng) -> np.ndarray:
    """Rain and texture blurred together."""
    return _blur(rainy, rng.uniform(0.8, 2.2))


def leftover(clean: np.ndarray, rainy: np.ndarray, rng: Rng) -> np.ndarray:
    """A part of the rain is left."""
    return clean + rng.uniform(0.1, 0.6) * (rainy - clean)


def excess(clean: np.ndarray, rainy: np.ndarray, rng: Rng) -> np.ndarray:
    """More is taken away than was added: dark streaks."""
    return clean - rng.uniform(0.15, 0.6) * (rainy - clean)


def ghost(clean: np.ndarray, rainy: np.ndarray, rng: Rng) -> np.ndarray:
    """Rain is taken away beside where it is."""
    shift = tuple(int(step) for step in rng.integers(-6, 7, 2))
    return rainy - rng.uniform(0.6, 1.0) * np.roll(rainy - clean, shift, (0, 1))


def uneven(clean: np.ndarray, rainy: np.ndarray, rng: Rng) -> np.ndarray:
    """Rain is left over here and taken away twice there, as a derainer does that has learned a part."""
    share = _patches(clean, rng) * rng.uniform(0.15, 0.4) + rng.uniform(-0.2, 0.4)
    return clean + share * (rainy - clean)


def out_of_focus(clean: np.ndarray, rainy: np.ndarray, rng: Rng) -> np.ndarray:
    """Rain is taken away too softly: its middle is left, and its sides are dark."""
    return rainy - rng.uniform(0.6, 1.1) * _blur(rainy - clean, rng.uniform(0.7, 2.5))


def threshold(clean: np.ndarray, rainy: np.ndarray, rng: Rng) -> np.ndarray:
    """The faint rain is left, or the bright middle of it."""
    light, level = rainy - clean, rng.uniform(0.02, 0.12)
    return clean + (np.minimum(light, level) if rng.random() < 0.5 else np.maximum(light - level, 0))


def take_texture(clean: np.ndarray, rainy: np.ndarray, rng: Rng) -> np.ndarray:
    """Thin bright texture is taken for rain and goes with it."""
    base = _partly(clean, rainy, rng)
    across = 2 * int(rng.integers(1, 4)) + 1
    thin = base - ndimage.grey_opening(base, (1, across, 1) if rng.random() < 0.7 else (across, across, 1))
    return base - rng.uniform(0.3, 1.0) * thin.min(2, keepdims=True)


def soft_under_rain(clean: np.ndarray, rainy: np.ndarray, rng: Rng) -> np.ndarray:
    """The rain is gone, and texture where it was."""
    there = np.clip(_blur((rainy - clean).max(2, keepdims=True), 1.0) / 0.05, 0, 1)
    return clean + there * (_blur(clean, rng.uniform(1.0, 2.5)) - clean)


def colour(clean: np.ndarray, rainy: np.ndarray, rng: Rng) -> np.ndarray:
    """Wrong colour: in patches, or of the whole."""
    base = _partly(clean, rainy, rng)
    if rng.random() < 0.5:
        return base * rng.uniform(0.8, 1.2, 3)
    noise = _blur(rng.standard_normal(clean.shape), clean.shape[0] / 12)
    return base + 0.15 * noise / (noise.std() + 1e-6)


def grid(clean: np.ndarray, rainy: np.ndarray, rng: Rng) -> np.ndarray:
    """Stripes, a grid or a checkerboard, as upsampling leaves."""
    period, amplitude = int(rng.integers(2, 9)), rng.uniform(0.02, 0.08)
    rows, columns = (np.arange(side)[:, None] for side in clean.shape[:2])
    up, across = ((axis + rng.integers(period)) % period < max(period // 2, 1) for axis in (rows, columns))
    made = (up ^ across.T, up | across.T, up & np.ones_like(across.T), up & across.T)[int(rng.integers(4))]
    return _partly(clean, rainy, rng) + amplitude * (made[..., None] - made.mean())


def sharpen(clean: np.ndarray, rainy: np.ndarray, rng: Rng) -> np.ndarray:
    """Sharpened too much."""
    base = _partly(clean, rainy, rng)
    return base + rng.uniform(1.0, 2.0) * (base - _blur(base, 1.0))


def jpeg(clean: np.ndarray, rainy: np.ndarray, rng: Rng) -> np.ndarray:
    """JPEG of quality 15 to 50."""
    file = io.BytesIO()
    pixels = np.rint(np.clip(_partly(clean, rainy, rng), 0, 1) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=int(rng.integers(15, 51)))
    return np.asarray(Image.open(file), np.float32) / 255


def tint(clean: np.ndarray, rainy: np.ndarray, rng: Rng) -> np.ndarray:
    """A veil of one colour."""
    return _partly(clean, rainy, rng) + rng.uniform(-0.08, 0.08, 3)


def tiles(clean: np.ndarray, rainy: np.ndarray, rng: Rng) -> np.ndarray:
    """Tiles of wrong mean and contrast, as normalisation by the tile leaves."""
    base = _partly(clean, rainy, rng)
    side = int(rng.integers(16, 41))
    counts = [-(-length // side) + 1 for length in clean.shape[:2]]
    gain, offset = (rng.uniform(low, high, counts) for low, high in ((0.75, 1.25), (-0.08, 0.08)))
    start = rng.integers(0, side, 2)

    def spread(values: np.ndarray) -> np.ndarray:
        whole = values.repeat(side, 0).repeat(side, 1)
        return whole[start[0] :, start[1] :][: clean.shape[0], : clean.shape[1], None]

    mean = base.mean((0, 1))
    return mean + spread(gain) * (base - mean) + spread(offset)


FAMILIES: dict[str, Family] = {
    family.__name__: family
    for family in (
        *(rainy_itself, row_median, median, smooth, leftover, excess, ghost, soft_under_rain, colour),
        *(uneven, out_of_focus, threshold, take_texture),
        *(grid, sharpen, jpeg, tint, tiles),
    )
}


def _partly(clean: np.ndarray, rainy: np.ndarray, rng: Rng) -> np.ndarray:
    """The clean crop, or in half of the cases with some rain left: faults of other kinds do not come alone."""
    return clean + max(rng.uniform(-0.3, 0.3), 0.0) * (rainy - clean)


def _patches(clean: np.ndarray, rng: Rng) -> np.ndarray:
    """Smooth noise of unit variance, [H, W, 1]."""
    noise = _blur(rng.standard_normal((*clean.shape[:2], 1)), clean.shape[0] / rng.uniform(8, 24))
    return noise / (noise.std() + 1e-6)


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(image, (sigma, sigma, 0))
