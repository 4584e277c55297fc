"""Drops: seeded, upside down, within their outline, soft where they are out of focus."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rgsud_fast.data.weather import DropStyle, render_drops

ONE = DropStyle(count=1, smallest=26, largest=26, bumps=0, least_aspect=1, most_aspect=1, least_opacity=1, defocus=0.05)


@pytest.fixture
def scene() -> np.ndarray:
    return np.random.default_rng(0).random((96, 120, 3), np.float32)


def test_the_same_seed_gives_the_same_drops_and_another_seed_others(scene):
    first = render_drops(scene, DropStyle(), seed=1)
    assert np.array_equal(render_drops(scene, DropStyle(), seed=1), first)
    assert not np.array_equal(render_drops(scene, DropStyle(), seed=2), first)
    assert first.dtype == np.float32 and first.min() >= 0 and first.max() <= 1


def test_the_image_is_left_alone_and_stays_what_it_was_outside_the_drops(scene):
    before = scene.copy()
    wet = render_drops(scene, DropStyle(count=12), seed=0)
    assert np.array_equal(scene, before)
    changed = (wet != scene).any(2).mean()
    assert 0.01 < changed < 0.6
    assert np.array_equal(render_drops(scene, DropStyle(count=0), seed=0), scene)


def test_a_drop_shows_the_scene_upside_down():
    sky = np.repeat(np.linspace(1, 0, 320, dtype=np.float32)[:, None, None], 480, 1).repeat(3, 2)  # bright above
    for seed in range(5):
        wet = render_drops(sky, ONE, seed)[..., 0]
        inside = np.argwhere(np.abs(wet - sky[..., 0]).max(1) > 0)[:, 0]
        row = (inside[0] + inside[-1]) // 2
        if 60 < row < 260:
            column = int(np.abs(wet - sky[..., 0])[row - 12].argmax())
            assert wet[row + 10, column] > wet[row - 10, column]
            return
    pytest.fail("no drop lay inside the image")


def test_radii_grow_with_the_image(scene):
    shares = []
    for by in (1, 3):
        large = np.kron(scene, np.ones((by, by, 1), np.float32))
        wet = render_drops(large, replace(ONE, count=4), seed=5)
        shares.append((np.abs(wet - large).max(2) > 0).mean())
    assert shares[0] == pytest.approx(shares[1], rel=0.1)


def test_a_drop_out_of_focus_has_a_softer_rim():
    flat = np.full((200, 200, 3), 0.8, np.float32)

    def steepest(defocus: float) -> float:
        wet = render_drops(flat, replace(ONE, defocus=defocus), seed=3)[..., 0]
        return float(np.abs(np.diff(wet, axis=0)).max())

    assert steepest(0.35) < 0.5 * steepest(0.05)
