"""A pair of one of the four types of rain, drawn as widely as photographs show it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...config.rain_types import RAIN_TYPES, RainType
from ..rain import RainStyle, render_rain
from .drops import DropStyle, render_drops
from .night import NightStyle, night_scene, render_night_rain

SIDE = 392  # the root of the area up to which streaks keep their lengths in pixels; in larger images they grow


class RenderedPair(NamedTuple):
    """A rainy image and its clean version, uint8 [H, W, 3] each; by night the clean one is night as well."""

    rainy: np.ndarray
    clean: np.ndarray


def render_pair(clean: np.ndarray, kind: RainType, seed: int | tuple[int, ...]) -> RenderedPair:
    """Render one pair of a type from a clean photograph by day.

    Args:
        clean: uint8 [H, W, 3].
        kind: drs, drd, nrs or nrd.
        seed: the same seed gives the same pair; another type of it another rain.
    """
    own = seed if isinstance(seed, tuple) else (seed,)
    rng = np.random.default_rng([*own, list(RAIN_TYPES).index(kind)])
    first, second = (int(number) for number in rng.integers(2**62, size=2))
    height, width = clean.shape[:2]
    if kind == "drs":
        return RenderedPair(render_rain(clean, draw_streaks(rng, height, width), first), clean)
    if kind == "drd":
        return RenderedPair(_with_drops(clean, draw_drops(rng), first), clean)
    night = night_scene(clean, draw_night(rng), first)
    if kind == "nrs":
        return RenderedPair(render_night_rain(night, draw_streaks(rng, height, width), second), night.photograph)
    return RenderedPair(_with_drops(night.photograph, draw_drops(rng), second), night.photograph)


def draw_streaks(rng: np.random.Generator, height: int, width: int) -> RainStyle:
    """Streaks of one to three layers, as long in a larger image as in a small one of the same scene."""
    scale = max(np.sqrt(height * width) / SIDE, 1.0)
    return RainStyle(
        angle=rng.uniform(-35, 35),
        length=scale * rng.uniform(18, 60),
        width=scale * rng.uniform(1.4, 3.4),
        density=rng.uniform(0.025, 0.07),
        brightness=rng.uniform(0.22, 0.42),
        layers=int(rng.integers(1, 4)),
        screen=bool(rng.random() < 1 / 3),
    )


def draw_drops(rng: np.random.Generator) -> DropStyle:
    """A few large to many small drops, more or less out of focus."""
    return DropStyle(count=int(rng.integers(12, 46)), defocus=rng.uniform(0.05, 0.35))


def draw_night(rng: np.random.Generator) -> NightStyle:
    """Dusk to deep night, with two to six lamps."""
    return NightStyle(exposure=rng.uniform(-4.0, -2.8), lamps=int(rng.integers(2, 7)), warm=rng.uniform(0.3, 1.0))


def _with_drops(image: np.ndarray, style: DropStyle, seed: int) -> np.ndarray:
    wet = render_drops(image.astype(np.float32) / 255, style, seed)
    return np.rint(255 * wet).astype(np.uint8)
