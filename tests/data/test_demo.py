"""The embedded data: there, deterministic, held out, and neither trivial nor hopeless."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from torch import Tensor

from rgsud_fast.data import Pair, demo, load_demo, to_batch
from rgsud_fast.errors import UserError
from rgsud_fast.iqa.metrics import fixed_filter, psnr


@pytest.fixture(scope="module")
def domains():
    return load_demo()


def batches(pair: Pair) -> tuple[Tensor, Tensor]:
    return to_batch(pair.rainy), to_batch(pair.clean)


def test_the_set_is_the_same_on_every_call(domains):
    again = load_demo()
    assert again.rainy.digests == domains.rainy.digests
    assert again.clean.digests == domains.clean.digests
    assert all(np.array_equal(a.rainy, b.rainy) for a, b in zip(again.val, domains.val, strict=True))


def test_it_is_large_enough_to_train_on(domains):
    assert 40 <= len(domains.rainy) <= 60
    assert len(domains.clean) >= 8
    assert len(set(domains.rainy.names)) == len(domains.rainy)
    for height, width in domains.rainy.sizes + domains.clean.sizes:
        assert min(height, width) >= 128
        assert max(height, width) <= 512


def test_validation_input_lies_between_22_and_26_decibels(domains):
    figures = [float(psnr(*batches(pair))) for pair in domains.val]
    assert len(figures) >= 3
    assert all(22 < figure < 26 for figure in figures), figures


def test_a_fixed_filter_leaves_room_for_learning(domains):
    pairs = [batches(pair) for pair in domains.val]
    rainy = np.mean([float(psnr(rainy, clean)) for rainy, clean in pairs])
    filtered = np.mean([float(psnr(fixed_filter(rainy), clean)) for rainy, clean in pairs])
    assert filtered < rainy + 2, (rainy, filtered)


def test_no_photograph_is_in_training_and_validation_and_no_pixel_in_both_domains(domains):
    trained = {name for name, _ in demo.TRAINING}
    assert not trained & {name for name, _, _ in demo.VALIDATION}
    halves = {name.rsplit("-", 1)[0]: domains.rainy[i] for i, name in enumerate(domains.rainy.names)}
    for i, name in enumerate(domains.clean.names):
        photograph = demo.photograph(next(file for file in trained if file.startswith(name)))
        left = domains.clean.sizes[i][1]
        assert np.array_equal(domains.clean[i], photograph[:, :left])
        assert (halves[name] >= photograph[:, left:]).all()


def test_a_missing_photograph_says_how_to_get_it():
    with pytest.raises(UserError, match=r"does not bundle unheard_of\.png: pip install -U scikit-image"):
        demo.photograph("unheard_of.png")


def test_rains_differ_and_stay_within_what_rain_looks_like():
    styles = [demo.near_rain(np.random.default_rng(seed), angle=7) for seed in range(50)]
    assert len(set(styles)) == 50
    assert all(style.angle == 7 and 0 < style.brightness < 0.5 and style.width < 5 < style.length for style in styles)


def test_the_set_is_that_of_the_published_figures_to_the_bit(domains):
    content = hashlib.sha256()
    for images in (domains.rainy, domains.clean):
        for i in range(len(images)):
            content.update(images[i].tobytes())
    for pair in domains.val:
        content.update(pair.rainy.tobytes() + pair.clean.tobytes())
    assert content.hexdigest() == "c967f8f73b18ecd62b6959bebdbfaabd6c3296c2518427c2404a3f68fb410f55"
