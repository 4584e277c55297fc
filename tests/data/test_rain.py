"""Rendered rain: seeded, bright, grey, and as dense, wide and slanted as its style says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rgsud_fast.data import RainStyle, render_rain
from rgsud_fast.data.rain import rain_layer

PLAIN = RainStyle(angle=0, length=30, width=2, density=0.02, brightness=0.4, layers=1, angle_spread=0, spread=0)


@pytest.fixture
def clean() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (61, 83, 3), dtype=np.uint8)


def test_the_same_seed_gives_the_same_rain_and_another_seed_another(clean):
    first = render_rain(clean, PLAIN, seed=1)
    assert np.array_equal(render_rain(clean, PLAIN, seed=1), first)
    assert not np.array_equal(render_rain(clean, PLAIN, seed=2), first)


@pytest.mark.parametrize("screen", [False, True])
def test_rain_only_brightens_and_leaves_the_clean_image_alone(clean, screen):
    before = clean.copy()
    rainy = render_rain(clean, replace(RainStyle(), screen=screen), seed=0)
    assert rainy.dtype == np.uint8
    assert (rainy >= clean).all()
    assert np.array_equal(clean, before)


def test_added_rain_is_grey_below_white(clean):
    rainy = render_rain(clean, RainStyle(brightness=0.1), seed=0)
    added = (rainy.astype(int) - clean)[(rainy < 255).all(axis=2)]
    assert added.max() > 10
    assert (added == added[:, :1]).all()


def test_floating_point_images_get_the_same_rain(clean):
    rainy = render_rain(clean.astype(np.float64) / 255, RainStyle(), seed=0)
    assert rainy.dtype == np.float64
    assert np.abs(rainy * 255 - render_rain(clean, RainStyle(), seed=0)).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("angle", [-35, -10, 0, 20, 45])
def test_streaks_lie_at_the_styles_angle(angle):
    rain = rain_layer(400, 400, replace(PLAIN, angle=angle, width=6), seed=0)
    v_row, v_column = np.gradient(rain)
    # The principal direction of the gradients is across the streaks.
    across = 0.5 * np.arctan2(2 * (v_row * v_column).sum(), (v_column**2 - v_row**2).sum())
    assert np.degrees(-across) == pytest.approx(angle, abs=1.5)


@pytest.mark.parametrize("length, width", [(15, 1), (30, 2), (60, 3)])
def test_the_light_added_is_density_times_brightness_times_the_profile(length, width):
    style = replace(PLAIN, length=length, width=width, density=0.05)
    mean = np.mean([rain_layer(300, 300, style, seed).mean() for seed in range(6)])
    profile = 0.8 * np.sqrt(np.pi / (4 * np.log(2)))  # means of 1 - t^4 over the length, of the Gaussian over its width
    assert mean == pytest.approx(0.05 * style.brightness * profile, rel=0.08)


def test_farther_layers_add_fainter_light():
    near, both = (rain_layer(200, 200, replace(PLAIN, layers=layers), seed=0) for layers in (1, 2))
    farther = both - near
    assert farther.min() > -1e-6
    assert 0 < farther.mean() < near.mean()
