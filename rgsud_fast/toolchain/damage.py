"""Damage that is rendered onto patches: what a camera does, blur, noise and JPEG, and what the weather does before."""

from __future__ import annotations

import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..config.toolbox import Kind
from ..data.rain import RainStyle, rain_layer

TAPS = 21  # of the blur; 10 pixels on each side
SODIUM = np.array([1.0, 0.85, 0.6], np.float32)  # the light of street lamps, red, green, blue


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, 21 taps each way, borders repeated. float32 [H, W, 3]; sigma in pixels, 0 changes nothing."""
    if sigma <= 0:
        return image
    offset = torch.arange(TAPS, dtype=torch.float64) - TAPS // 2
    weight = torch.exp(-offset.square() / (2 * sigma**2))
    weight = (weight / weight.sum()).float()
    x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[:, None]
    x = F.pad(x, (TAPS // 2,) * 4, mode="replicate")
    x = F.conv2d(F.conv2d(x, weight.view(1, 1, 1, -1)), weight.view(1, 1, -1, 1))
    return x[:, 0].permute(1, 2, 0).contiguous().numpy()


def noise(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise, clipped to [0, 1]; sigma in grey levels of 255."""
    drawn = rng.standard_normal(image.shape, dtype=np.float32)
    return (image + np.float32(sigma / 255) * drawn).clip(0, 1)


def jpeg(image: np.ndarray, quality: float) -> np.ndarray:
    """Through a JPEG file of that quality, 1 to 100, colours at half the resolution (4:2:0): 100 is not lossless."""
    held = io.BytesIO()
    levels = np.rint(image.clip(0, 1) * 255).astype(np.uint8)
    Image.fromarray(levels).save(held, "JPEG", quality=min(max(round(quality), 1), 100), subsampling="4:2:0")
    return np.asarray(Image.open(held)).astype(np.float32) / 255


def streaks(image: np.ndarray, brightness: float, rng: np.random.Generator) -> np.ndarray:
    """Rain that falls at one angle, its streaks as bright as that on the scale where white is 1."""
    style = RainStyle(
        angle=rng.uniform(-35, 35),
        length=rng.uniform(12, 40),
        width=rng.uniform(1.2, 3.0),
        density=rng.uniform(0.02, 0.06),
        brightness=brightness,
        layers=int(rng.integers(1, 3)),
        angle_spread=2.5,
    )
    layer = rain_layer(image.shape[0], image.shape[1], style, int(rng.integers(2**32)))
    return np.minimum(image + layer[:, :, None], 1)


def drops(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Drops on the lens that cover about that share: discs that show the scene blurred, upside down and brighter."""
    height, width = image.shape[:2]
    through = 1.1 * blur(image, 4)[::-1] + 0.03
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    covered, result = 0.0, image
    while covered < share * height * width:
        row, column, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(3, 10)
        inside = np.clip(radius - np.hypot(rows - row, columns - column), 0, 1)[:, :, None]  # an edge of a pixel
        result = result + inside.astype(np.float32) * (through - result)
        covered += np.pi * radius**2
    return result.clip(0, 1)


def night(image: np.ndarray, strength: float) -> np.ndarray:
    """Street light in place of the day's: darker, yellower and steeper, by a strength of 0 to 1."""
    light = 1 - strength * (1 - 0.5 * SODIUM)
    return np.power(image, np.float32(1 + 0.8 * strength)) * light.astype(np.float32)


def damage(image: np.ndarray, kind: Kind, value: float, rng: np.random.Generator) -> np.ndarray:
    """One kind of damage of that strength, in the unit of its tools' bands.

    Args:
        image: float32 [H, W, 3] in [0, 1].
        kind: which.
        value: sigma of the blur in pixels or of the noise in grey levels, JPEG's quality, brightness of streaks,
            share that drops cover, strength of the night.
        rng: what is drawn comes from it.

    Returns:
        The same shape, in [0, 1].
    """
    if kind == "blur":
        return blur(image, value)
    if kind == "noise":
        return noise(image, value, rng)
    if kind == "jpeg":
        return jpeg(image, value)
    if kind == "streaks":
        return streaks(image, value, rng)
    if kind == "drops":
        return drops(image, value, rng)
    if kind == "night":
        return night(image, value)
    raise ValueError(f"no damage {kind!r}")
