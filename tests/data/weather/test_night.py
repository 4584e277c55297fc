"""Night: dim, lit by lamps, and rain that shines in their light alone."""

from __future__ import annotations

import numpy as np
import pytest

from rgsud_fast.data.rain import RainStyle
from rgsud_fast.data.weather import NightStyle, night_scene, render_night_rain
from rgsud_fast.data.weather.night import LUMA
from rgsud_fast.data.weather.planes import to_light


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(20, 250, (10, 13, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((16, 16, 1), np.uint8))


def test_the_same_seed_gives_the_same_night_and_another_seed_another(clean):
    first = night_scene(clean, NightStyle(), seed=1)
    again = night_scene(clean, NightStyle(), seed=1)
    assert np.array_equal(first.light, again.light) and np.array_equal(first.glow, again.glow)
    assert not np.array_equal(night_scene(clean, NightStyle(), seed=2).light, first.light)


def test_night_is_darker_than_day_and_has_lamps_as_bright_as_white(clean):
    night = night_scene(clean, NightStyle(), seed=0)
    assert np.median(night.photograph) < 0.5 * np.median(clean)
    assert (night.photograph.min(2) > 200).any()
    assert night.light.min() >= 0


def test_the_glow_falls_with_the_distance_from_a_lamp(clean):
    glow = night_scene(clean, NightStyle(lamps=1, smallest=3, largest=3), seed=4).glow @ LUMA
    row, column = np.unravel_index(glow.argmax(), glow.shape)
    distance = np.hypot(*(np.ogrid[: glow.shape[0], : glow.shape[1]][i] - at for i, at in enumerate((row, column))))
    near, middle, far = (glow[(distance > a) & (distance < b)].mean() for a, b in ((0, 8), (20, 30), (50, 70)))
    assert near > 2 * middle > 4 * far > 0


def test_a_photograph_that_is_all_black_becomes_a_night_too():
    night = night_scene(np.zeros((40, 50, 3), np.uint8), NightStyle(), seed=0)
    assert np.isfinite(night.light).all()


def test_streaks_only_brighten_and_shine_where_there_is_light(clean):
    night = night_scene(clean, NightStyle(lamps=2), seed=7)
    rainy = render_night_rain(night, RainStyle(density=0.06), seed=8)
    added = to_light(rainy) - to_light(night.photograph)
    assert added.min() >= 0
    glow = night.glow @ LUMA
    lit, dark = glow > np.quantile(glow, 0.9), glow <= np.quantile(glow, 0.3)
    assert (added @ LUMA)[lit].mean() > 4 * (added @ LUMA)[dark].mean() > 0


def test_streaks_have_the_lamps_colour(clean):
    night = night_scene(clean, NightStyle(lamps=3, warm=1.0), seed=3)
    rainy = render_night_rain(night, RainStyle(density=0.06), seed=8)
    unsaturated = rainy.max(2) < 250
    added = (to_light(rainy) - to_light(night.photograph))[unsaturated].mean(0)
    assert added[0] > 1.3 * added[1] > 1.6 * added[2]
