"""The sampler: pure, even over the images, inside them, and the same on any number of ranks."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rgsud_fast.data import Crop, draw, draw_uniform, offsets_of, sampler, windows_of

SIZES = [(40, 50), (64, 64), (33, 90), (120, 41), (70, 70)]


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**70),
    step=st.integers(0, 10**7),
    batch=st.integers(1, 9),
    sizes=st.lists(st.tuples(st.integers(32, 300), st.integers(32, 300)), min_size=1, max_size=7),
    side=st.integers(32, 200),
    stream=st.sampled_from(["rainy", "clean"]),
)
def test_windows_lie_inside_their_images_and_depend_on_the_arguments_alone(seed, step, batch, sizes, side, stream):
    crops = draw(seed, step, batch, sizes, side, stream)
    assert len(crops) == batch
    for crop in crops:
        height, width = sizes[crop.index]
        assert 0 <= crop.top <= max(height - side, 0)
        assert 0 <= crop.left <= max(width - side, 0)
    sampler._permutation.cache_clear()
    draw(seed + 1, step, batch, sizes, side, stream)
    assert draw(seed, step, batch, sizes, side, stream) == crops


@pytest.mark.parametrize("ranks", [2, 3, 6])
def test_ranks_together_draw_the_global_batch(ranks):
    whole = draw(3, 17, 6, SIZES, 32, "rainy")
    parts = [draw(3, 17, 6, SIZES, 32, "rainy", slots=range(rank, 6, ranks)) for rank in range(ranks)]
    assert [parts[slot % ranks][slot // ranks] for slot in range(6)] == whole


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 7])
def test_every_epoch_shows_each_image_once_whatever_the_batch(batch):
    crops = [crop for step in range(70) for crop in draw(0, step, batch, SIZES, 32, "clean")]
    for start in range(0, len(crops) - len(SIZES) + 1, len(SIZES)):
        assert sorted(crop.index for crop in crops[start : start + len(SIZES)]) == list(range(len(SIZES)))


def test_epochs_streams_and_seeds_differ():
    def order(seed, stream, epoch):
        return tuple(crop.index for crop in draw(seed, epoch, 40, [(64, 64)] * 40, 32, stream))

    orders = {order(seed, stream, epoch) for seed in (0, 1) for stream in ("rainy", "clean") for epoch in range(3)}
    assert len(orders) == 12


def test_windows_and_flips_are_spread_evenly():
    crops = [crop for step in range(250) for crop in draw(0, step, 8, [(34, 35)], 32, "rainy")]
    places = Counter((crop.top, crop.left, crop.flip) for crop in crops)
    assert len(places) == 3 * 4 * 2
    expected = len(crops) / len(places)
    assert sum((count - expected) ** 2 / expected for count in places.values()) < 50  # chi-squared, 23 d.o.f., p = .001


def test_drawn_values_do_not_change_between_releases():
    assert draw(0, 0, 2, SIZES, 32, "rainy") == [Crop(0, 5, 1, False), Crop(2, 0, 49, False)]


def test_windows_say_where_the_crops_lie():
    crops = [Crop(1, 2, 3, False), Crop(0, 0, 5, True)]
    sizes = [(10, 20), (30, 40)]
    assert offsets_of(sizes) == [0, 600, 4200]
    assert windows_of(crops, sizes, offsets_of(sizes)).tolist() == [[600, 30, 40, 2, 3, 0], [0, 10, 20, 0, 5, 1]]


def test_numbers_are_a_function_of_seed_step_and_slot():
    whole = draw_uniform(3, 7, 8, 0.7, 1.3, "layers")
    assert whole == draw_uniform(3, 7, 8, 0.7, 1.3, "layers", range(4)) + draw_uniform(
        3, 7, 8, 0.7, 1.3, "layers", range(4, 8)
    )
    assert all(0.7 <= number < 1.3 for number in whole) and len(set(whole)) == 8
    assert whole != draw_uniform(3, 8, 8, 0.7, 1.3, "layers") != draw_uniform(4, 7, 8, 0.7, 1.3, "layers")
    many = [number for step in range(300) for number in draw_uniform(0, step, 4, 0, 1, "layers")]
    assert abs(sum(many) / len(many) - 0.5) < 0.03
