"""Rain rendered onto a photograph: layers of bright, thin, soft-edged streaks that fall at much the same angle.

A drop that falls during the exposure leaves a streak: it adds light along its path, nearly the same in red, green and
blue, and hides hardly anything of what is behind it. Drops farther away leave shorter, thinner, fainter and more
numerous streaks (Garg and Nayar, IJCV 2007). The embedded data is made with this; no photograph of rain comes in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# From one layer to the next, farther one.
_FARTHER_LENGTH, _FARTHER_WIDTH, _FARTHER_BRIGHTNESS = 0.7, 0.8, 0.65
_SIGMA_PER_WIDTH = 1 / (2 * np.sqrt(2 * np.log(2)))  # the width is the profile's full width at half maximum


@dataclass(frozen=True)
class RainStyle:
    """How a rain looks. The lengths are those of the nearest layer; each streak departs a little from them."""

    angle: float = 10.0  # of the streaks from the vertical, degrees; positive leans to the right at the bottom
    length: float = 35.0  # pixels
    width: float = 2.0  # full width at half maximum, pixels
    density: float = 0.04  # share of the image that each layer's streaks cover, before they overlap
    brightness: float = 0.4  # light a streak adds at its middle, on the scale where white is 1
    layers: int = 2  # near to far
    angle_spread: float = 2.0  # standard deviation over the streaks, degrees
    spread: float = 0.4  # standard deviation of the logarithm of length, width and brightness
    screen: bool = False  # blend as 1 - (1 - clean)(1 - rain) instead of clean + rain


def rain_layer(height: int, width: int, style: RainStyle, seed: int) -> np.ndarray:
    """Render the light that rain adds.

    Args:
        height, width: size of the image, in pixels.
        style: how it looks.
        seed: the same seed and style give the same rain.

    Returns:
        float32 [height, width], at least 0, not clamped above.
    """
    rng = np.random.default_rng(seed)
    rain = np.zeros((height, width), np.float32)
    for layer in range(style.layers):
        length = style.length * _FARTHER_LENGTH**layer
        thickness = style.width * _FARTHER_WIDTH**layer
        brightness = style.brightness * _FARTHER_BRIGHTNESS**layer
        # Streaks may begin outside the image, so they are scattered over a wider area, as densely.
        area = (height + 2 * length) * (width + 2 * length)
        count = round(style.density * area / (length * thickness))
        row = rng.uniform(-length, height + length, count)
        column = rng.uniform(-length, width + length, count)
        angle = np.radians(style.angle + style.angle_spread * rng.standard_normal(count))
        drawn = [mean * np.exp(style.spread * rng.standard_normal(count)) for mean in (length, thickness, brightness)]
        for streak in zip(row, column, angle, *drawn, strict=True):
            _add_streak(rain, *streak)
    return rain


def render_rain(clean: np.ndarray, style: RainStyle, seed: int) -> np.ndarray:
    """Render rain onto a clean image.

    rainy = min(clean + rain, 1), or 1 - (1 - clean)(1 - rain) with `style.screen`; the rain is grey.

    Args:
        clean: [H, W, 3], uint8, or floating point in [0, 1].
        style: how the rain looks.
        seed: the same seed and style give the same rain.

    Returns:
        The rainy image, in the same type and range.
    """
    scale = 255.0 if clean.dtype == np.uint8 else 1.0
    rain = rain_layer(clean.shape[0], clean.shape[1], style, seed)[:, :, None]
    image = clean.astype(np.float32) / scale
    image = 1 - (1 - image) * (1 - np.minimum(rain, 1)) if style.screen else np.minimum(image + rain, 1)
    return np.rint(image * scale).astype(np.uint8) if scale == 255 else image.astype(clean.dtype)


def _add_streak(
    rain: np.ndarray, row: float, column: float, angle: float, length: float, thickness: float, brightness: float
) -> None:
    """Add one streak: a Gaussian across, and along it a plateau that fades out at both ends."""
    down, right = np.cos(angle), np.sin(angle)
    sigma = max(thickness * _SIGMA_PER_WIDTH, 0.35)  # any thinner and it would fall between the pixels
    reach_row = abs(down) * length / 2 + 3 * sigma
    reach_column = abs(right) * length / 2 + 3 * sigma
    top, bottom = max(int(row - reach_row), 0), min(int(row + reach_row) + 2, rain.shape[0])
    left, end = max(int(column - reach_column), 0), min(int(column + reach_column) + 2, rain.shape[1])
    if top >= bottom or left >= end:
        return
    rows = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(row)
    columns = np.arange(left, end, dtype=np.float32)[None, :] - np.float32(column)
    along = (rows * np.float32(down) + columns * np.float32(right)) * np.float32(2 / length)  # -1 ... 1
    across = (columns * np.float32(down) - rows * np.float32(right)) * np.float32(1 / sigma)
    fade = np.maximum(1 - along**4, 0)
    rain[top:bottom, left:end] += np.float32(brightness) * fade * np.exp(-0.5 * across**2)
