"""Blurs and samples of renderers: exact where they can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rgsud_fast.data.weather.planes import box_blur, enlarge, sample, shrink, to_light, to_photograph


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).random((31, 45, 3), np.float32)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.7, 6.0])
def test_a_blur_has_the_variance_that_it_is_asked_for_and_keeps_the_light(sigma):
    spot = np.zeros((101, 101, 1), np.float32)
    spot[50, 50] = 1
    blurred = box_blur(spot, sigma)[..., 0]
    offset = np.arange(101) - 50
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    assert (blurred.sum(1) * offset**2).sum() == pytest.approx(sigma**2, rel=1e-3)
    assert np.allclose(blurred, blurred.T, atol=1e-7)


def test_a_blur_of_nothing_and_of_an_even_image_changes_nothing(image):
    assert np.array_equal(box_blur(image, 0), image)
    even = np.full((9, 7, 3), 0.3, np.float32)
    assert np.allclose(box_blur(even, 5), even, atol=1e-6)


def test_a_sample_is_bilinear_between_pixels_and_mirrored_however_far_beyond_the_borders(image):
    rows, columns = np.array([3.0, 4.5, -1.0, 31.0, 62 + 3.0]), np.array([5.0, 5.0, 0.0, 44.0, 5.0])
    got = sample(image, rows, columns)
    expected = [image[3, 5], (image[4, 5] + image[5, 5]) / 2, image[0, 0], image[30, 44], image[3, 5]]
    assert np.allclose(got, expected, atol=1e-6)


def test_a_shrunk_and_enlarged_ramp_is_the_ramp_inside():
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32)[:, None, None] / 40, (40, 21, 1))
    back = enlarge(shrink(ramp, 4), 4, 40, 21)
    assert back.shape == ramp.shape
    assert np.allclose(back[4:-4], ramp[4:-4], atol=1e-6)


def test_a_photograph_becomes_light_and_the_same_photograph_again():
    photograph = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    light = to_light(photograph)
    assert light.min() == 0 and light.max() == pytest.approx(1)
    assert np.array_equal(to_photograph(light), photograph)
    assert np.allclose(to_light(photograph / 255), light, atol=1e-6)
