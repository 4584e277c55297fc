"""Pairs of the four types: seeded, apart by rain alone, and of a plausible strength."""

from __future__ import annotations

import numpy as np
import pytest

from rgsud_fast.config.rain_types import RAIN_TYPES, types_of
from rgsud_fast.data.demo import photograph
from rgsud_fast.data.weather import render_pair
from rgsud_fast.errors import UserError


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    return photograph("chelsea.png")[:200, :300]


@pytest.mark.parametrize("kind", RAIN_TYPES)
def test_a_pair_is_a_function_of_its_seed(clean, kind):
    before = clean.copy()
    first, again, other = (render_pair(clean, kind, seed) for seed in (1, 1, 2))
    assert np.array_equal(clean, before)
    assert np.array_equal(first.rainy, again.rainy) and np.array_equal(first.clean, again.clean)
    assert not np.array_equal(first.rainy, other.rainy)
    assert first.rainy.dtype == first.clean.dtype == np.uint8
    assert first.rainy.shape == first.clean.shape == clean.shape


@pytest.mark.parametrize("kind, least, most", [("drs", 17, 30), ("drd", 19, 34), ("nrs", 26, 42), ("nrd", 24, 42)])
def test_rain_is_neither_invisible_nor_all_there_is(clean, kind, least, most):
    for seed in range(4):
        pair = render_pair(clean, kind, seed)
        error = ((pair.rainy.astype(float) - pair.clean) ** 2).mean()
        assert least < 10 * np.log10(255**2 / error) < most


def test_by_day_the_clean_image_is_the_photograph_and_by_night_it_is_night(clean):
    for kind in RAIN_TYPES:
        pair = render_pair(clean, kind, 3)
        if kind.startswith("d"):
            assert np.array_equal(pair.clean, clean)
        else:
            assert np.median(pair.clean) < 0.5 * np.median(clean)


def test_types_of_one_seed_differ_and_are_named_or_refused(clean):
    rainy = [render_pair(clean, kind, 0).rainy for kind in RAIN_TYPES]
    assert len({image.tobytes() for image in rainy}) == 4
    assert types_of("nrd, drs,nrd") == ("nrd", "drs")
    for wrong in ("", "drx", "drs,,haze"):
        with pytest.raises(UserError, match=r"no type of rain.*give drs, drd, nrs or nrd"):
            types_of(wrong)
