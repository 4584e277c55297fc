"""Night made of a photograph by day: dim and bluish, lit by a few lamps whose glow also lights the rain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..rain import RainStyle, rain_layer
from .planes import box_blur, enlarge, shrink, to_light, to_photograph

SIDE = 400  # of the image, the root of its area, for which lengths are given
COARSE = 4  # the glow is computed at a quarter of the size
# A lamp's light falls with the distance, much like 1 / r: widths of three blurs, and what each adds.
GLOW = ((6.0, 0.25), (20.0, 0.35), (60.0, 0.5))
GLOW_LEVEL, GLOW_SHARE = 0.5, 99.5  # the glow's 99.5th percentile
TINT = np.array([0.85, 0.95, 1.15], np.float32)  # of what the sky still lights
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
WARM, COLD = np.array([1.0, 0.62, 0.28], np.float32), np.array([0.8, 0.92, 1.0], np.float32)  # sodium, LED
HAZE, HAZE_POWER = 0.25, 1.3  # of the glow that the air itself sends to the camera
NOISE_PER_LIGHT, NOISE = 4e-4, 2e-6  # variance: of photons, of the sensor
RAIN_LIGHT, RAIN_AMBIENT, RAIN_GLOW = 1.6, 0.012, 0.9  # of a streak: in all, from the sky, from the lamps


@dataclass(frozen=True)
class NightStyle:
    """How a night looks. Lengths are in pixels of an image of 400 x 400."""

    exposure: float = -3.4  # of what the sky lights, in stops
    lamps: int = 4
    warm: float = 0.7  # share of warm lamps
    smallest: float = 1.5  # standard deviation of a lamp
    largest: float = 4.0
    dimmest: float = 2.0  # light of a lamp at its middle, where white is 1
    brightest: float = 5.0


class Night(NamedTuple):
    """A scene by night, in linear light, float32 [H, W, 3] each."""

    light: np.ndarray  # what the camera gets, noise in it
    glow: np.ndarray  # what the lamps send to each place

    @property
    def photograph(self) -> np.ndarray:
        """uint8 [H, W, 3]."""
        return to_photograph(self.light)


def night_scene(clean: np.ndarray, style: NightStyle, seed: int) -> Night:
    """Make night of a photograph by day.

    light = sky + x glow + 0.25 glow^1.3 + lamps + noise, with x the photograph's linear light and sky its dim, half
    grey, bluish version. Lamps stand where the photograph is bright. The noise is a part of the scene: rain comes
    later, so that a pair differs by rain alone.

    Args:
        clean: [H, W, 3], uint8, or floating point in [0, 1].
        style: how the night looks.
        seed: the same seed and style give the same night.
    """
    rng = np.random.default_rng(seed)
    x = to_light(clean)
    grey = (x @ LUMA)[..., None]
    sky = np.float32(2.0**style.exposure) * (0.5 * x + 0.5 * grey) * TINT
    lamps = _lamps(grey[..., 0], style, rng)
    glow = _glow(lamps)
    light = sky + x * glow + HAZE * glow**HAZE_POWER + lamps
    deviation = np.sqrt(NOISE_PER_LIGHT * np.minimum(light, 1) + NOISE)
    light = np.maximum(light + deviation * rng.standard_normal(light.shape, dtype=np.float32), 0)
    return Night(light.astype(np.float32), glow)


def render_night_rain(night: Night, style: RainStyle, seed: int) -> np.ndarray:
    """Streaks by night: they shine where there is light, in its colour.

    light + 1.6 rain (0.012 + 0.9 glow), with the layer of `rain_layer`.

    Returns:
        uint8 [H, W, 3].
    """
    height, width = night.light.shape[:2]
    rain = rain_layer(height, width, style, seed)[..., None]
    return to_photograph(night.light + np.float32(RAIN_LIGHT) * rain * (RAIN_AMBIENT + RAIN_GLOW * night.glow))


def _lamps(grey: np.ndarray, style: NightStyle, rng: np.random.Generator) -> np.ndarray:
    """The light of the lamps themselves, [H, W, 3]: Gaussians where the photograph is bright."""
    height, width = grey.shape
    scale = np.sqrt(height * width) / SIDE
    likely = shrink(grey[..., None], COARSE)[..., 0] ** 2 + 1e-6
    places = rng.choice(likely.size, style.lamps, p=(likely / likely.sum()).ravel())
    lamps = np.zeros((height, width, 3), np.float32)
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    for place in places:
        row, column = (COARSE * (at + rng.random()) for at in divmod(int(place), likely.shape[1]))
        sigma = scale * rng.uniform(style.smallest, style.largest)
        colour = (WARM if rng.random() < style.warm else COLD) * rng.uniform(0.9, 1.1, 3)
        shape = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * sigma * sigma))
        lamps += (rng.uniform(style.dimmest, style.brightest) * shape)[..., None].astype(np.float32) * np.float32(
            colour
        )
    return lamps


def _glow(lamps: np.ndarray) -> np.ndarray:
    """The light that lamps send to each place, [H, W, 3]."""
    height, width = lamps.shape[:2]
    scale = np.sqrt(height * width) / SIDE
    small = shrink(lamps, COARSE)
    glow = sum((np.float32(gain * sigma) * box_blur(small, scale * sigma / COARSE) for sigma, gain in GLOW), 0 * small)
    level = np.percentile(glow @ LUMA, GLOW_SHARE)
    return enlarge(np.maximum(glow, 0) * np.float32(GLOW_LEVEL / max(float(level), 1e-9)), COARSE, height, width)
