"""A sweep fills the pool with what the derainer makes, and its guards keep gamed scores out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from rgsud_fast.data import ImageSet
from rgsud_fast.iqa import make_scorer
from rgsud_fast.pool import RewardPool
from rgsud_fast.sweep import plausible, sweep

SIZES = [(40, 50), (64, 48), (40, 50)]
CPU = torch.device("cpu")


class Darken(nn.Module):
    """A derainer whose output is its input times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, image):
        assert not self.training
        return image * self.factor


@pytest.fixture
def rainy():
    generator = np.random.default_rng(0)
    arrays = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    return ImageSet.from_arrays(["a", "b", "c"], arrays)


@pytest.fixture
def darkness(rainy):
    return make_scorer(lambda images: -images.mean(dim=(1, 2, 3)), rainy, rainy)


def test_a_sweep_fills_the_pool_and_a_better_derainer_replaces_the_entries(rainy, darkness):
    pool = RewardPool(rainy.sizes)
    derainer = Darken(0.95).train()
    first = sweep(derainer, rainy, range(3), darkness, pool, CPU, 0.1)
    assert (first.images, first.entered, first.refused) == (3, 3, 0)
    assert derainer.training
    worse = sweep(Darken(0.99), rainy, range(3), darkness, pool, CPU, 0.1)
    better = sweep(Darken(0.9), rainy, [2, 0], darkness, pool, CPU, 0.1)
    assert (worse.entered, better.entered) == (0, 2)
    assert worse.mean_score == first.mean_score < better.mean_score
    expected = (torch.from_numpy(rainy[1].copy()).float() * 0.95).round()
    assert (pool.best(1)[0].float() - expected).abs().max() <= 1


def test_scores_do_not_depend_on_the_other_images(rainy, darkness):
    alone, together = RewardPool(rainy.sizes), RewardPool(rainy.sizes)
    sweep(Darken(0.9), rainy, [1], darkness, alone, CPU, 0.1)
    sweep(Darken(0.9), rainy, [0, 1, 2], darkness, together, CPU, 0.1)
    assert torch.equal(alone.scores[1], together.scores[1])


def test_another_picture_a_blank_one_and_a_broken_one_are_refused():
    rainy = torch.rand(1, 3, 64, 64) * 0.5
    candidates = torch.cat([rainy * 0.9, rainy + 0.4, torch.full_like(rainy, 0.25), rainy * float("nan")])
    assert plausible(candidates, rainy.expand(4, -1, -1, -1), 0.1).tolist() == [True, False, False, False]


def test_refused_images_never_enter(rainy, darkness):
    pool = RewardPool(rainy.sizes)
    result = sweep(Darken(0.0), rainy, range(3), darkness, pool, CPU, 0.1)  # black: the best score of all
    assert (result.entered, result.refused) == (0, 3)
    assert not pool.filled.any()
