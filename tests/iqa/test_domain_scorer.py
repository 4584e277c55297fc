"""The classifier of the two unpaired domains: sees rain, is reproducible, judges each image alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rgsud_fast.iqa import DomainScorer, Plausibility, fit_domain_scorer, validity
from rgsud_fast.iqa._augment import crops, mix, spoil, vary
from rgsud_fast.iqa.domain import RainNet


def scene(seed: int, height: int = 100, width: int = 120) -> np.ndarray:
    """Smooth shading with a few straight edges."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.full((height, width, 3), 90.0) + rng.normal(size=3) * 15
    for _ in range(8):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(20, 100)
        image[x * np.cos(angle) + y * np.sin(angle) > offset] += rng.normal(size=3) * 12
    return np.clip(image + rng.normal(size=image.shape) * 2, 0, 255).astype(np.uint8)


def with_rain(image: np.ndarray, seed: int) -> np.ndarray:
    """Thin, bright, nearly vertical streaks."""
    rng = np.random.default_rng(seed)
    light = np.zeros(image.shape[:2])
    for _ in range(60):
        top, left, length = rng.integers(0, 80), rng.integers(0, 115), rng.integers(8, 20)
        light[top : top + length, left] += 60
    return np.clip(image + light[:, :, None], 0, 255).astype(np.uint8)


def fitted(seed: int = 0, iterations: int = 30) -> DomainScorer:
    clean = [scene(k) for k in range(8)]
    rainy = [with_rain(scene(k), k) for k in range(20, 28)]
    return fit_domain_scorer(rainy, clean, seed, iterations)


@pytest.fixture(scope="module")
def scorer() -> DomainScorer:
    return fitted()


def test_clean_scores_above_rainy_on_unseen_scenes(scorer):
    pairs = [SimpleNamespace(clean=scene(k), rainy=with_rain(scene(k), k)) for k in range(40, 52)]
    assert validity(scorer, pairs) == 1


def test_the_score_falls_with_the_amount_of_rain(scorer):
    clean, rainy = (torch.from_numpy(x).permute(2, 0, 1) / 255 for x in (scene(60), with_rain(scene(60), 0)))
    scores = scorer.score(torch.stack([torch.lerp(clean, rainy, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]))
    assert (scores.diff() < 0).all()


def test_the_same_seed_gives_the_same_scorer_and_touches_no_global_randomness():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = fitted(1, 2).state(), fitted(1, 2).state(), fitted(2, 2).state()
    DomainScorer.from_state(first)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_score_does_not_depend_on_its_neighbours(scorer):
    images = torch.rand(4, 3, 45, 61)
    images[2, 0, 3, 3] = torch.nan
    together = scorer.score(images)
    assert together.isfinite().tolist() == [True, True, False, True]
    assert torch.equal(scorer.score(images[3:]), together[3:])


def test_the_rainy_image_only_subtracts_the_penalty(scorer):
    rainy, derained = torch.rand(2, 3, 40, 50), torch.rand(2, 3, 40, 50)
    expected = scorer.score(derained) - Plausibility().penalty(rainy, derained)
    torch.testing.assert_close(scorer.score(derained, rainy=rainy), expected)


def test_brightness_alone_does_not_move_the_score(scorer):
    image = 0.2 + 0.5 * torch.rand(1, 3, 50, 50)
    torch.testing.assert_close(scorer.score(image + 0.2), scorer.score(image), rtol=0, atol=1e-4)


def test_the_restored_scorer_gives_the_same_bits(scorer):
    images = torch.rand(2, 3, 40, 44)
    assert torch.equal(DomainScorer.from_state(scorer.state()).score(images), scorer.score(images))


def test_the_classifier_is_small():
    assert sum(weight.numel() for weight in RainNet().parameters()) < 50_000


def test_crops_reflect_small_images_and_stay_in_range():
    generator = torch.Generator().manual_seed(0)
    windows = crops([scene(0, 40, 33), scene(1)], 6, 64, generator)
    assert windows.shape == (6, 3, 64, 64)
    for changed in (vary(windows, generator), spoil(windows, generator)):
        assert changed.shape == windows.shape
        assert 0 <= changed.min() <= changed.max() <= 1


def test_mixing_keeps_targets_in_step_with_images():
    target = torch.tensor([0.0, 1.0] * 8)
    images = target[:, None, None, None].expand(16, 3, 2, 2)
    mixed, share = mix(images, target, torch.Generator().manual_seed(0))
    torch.testing.assert_close(mixed[:, 0, 0, 0], share)
    assert ((share > 0) & (share < 1)).any()


def test_real_rain_is_told_from_clean_after_a_short_fit(rgsud_data):
    from rgsud_fast.data import list_images, read_image

    def read(folder: str, step: int = 1) -> list[np.ndarray]:
        return [read_image(path) for path in list_images(rgsud_data / folder)[::step]]

    scorer = fit_domain_scorer(read("rain100l/train_rainy", 4), read("clean", 4), seed=0, iterations=40)
    pairs = zip(read("rain100l/val/rainy"), read("rain100l/val/clean"), strict=True)
    assert validity(scorer, [SimpleNamespace(rainy=rainy, clean=clean) for rainy, clean in pairs]) > 0.95
