"""Rewards by regions, and the maps that a pool keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mapped import untrained
from torch import nn

from rgsud_fast.config import RewardConfig
from rgsud_fast.data import Crop, FolderSet
from rgsud_fast.ops import take_crops
from rgsud_fast.rewards.pool import RewardPool
from rgsud_fast.rewards.pool_maps import PoolMaps
from rgsud_fast.rewards.regions import composite
from rgsud_fast.rewards.sweep import rescore, sweep

CPU = torch.device("cpu")
SIZES = [(72, 90), (40, 50)]


class Mapped:
    """A score and a map that are easy to foresee: an image is spoiled by its distance from 0.4."""

    name, maps = "mapped", True

    def score(self, images, rainy=None):
        return self.score_and_map(images, rainy)[0]

    def map(self, images, rainy=None):
        return (3 * (images - 0.4).abs().mean(1, keepdim=True)).clamp(max=1)

    def score_and_map(self, images, rainy=None):
        spoiled = self.map(images)
        return 1 - spoiled.mean((1, 2, 3)), spoiled

    def state(self):
        return {}


class Paint(nn.Module):
    """A derainer that gives back what it was given to."""

    def __init__(self, images):
        super().__init__()
        self.images, self.turn = images, 0

    def forward(self, image):
        return next(one for one in self.images if one.shape == image.shape)


def halves(left: float, right: float, size=SIZES[0]) -> torch.Tensor:
    image = torch.full((1, 3, *size), left)
    image[..., size[1] // 2 :] = right
    return image


@pytest.fixture
def rainy():
    arrays = [np.full((*size, 3), 140, np.uint8) for size in SIZES]
    for array in arrays:
        array[::3] = 150
    return FolderSet.from_arrays(["a", "b"], arrays)


def test_blocks_come_from_the_version_that_is_less_spoiled_there():
    new, old = torch.ones(1, 3, 72, 90), torch.zeros(1, 3, 72, 90)
    better = torch.zeros(1, 1, 72, 90)
    worse = torch.zeros(1, 1, 72, 90)
    worse[..., :32, 64:] = 0.5
    made = composite(new, old, better, worse, 0.05)
    assert made[0, 0, 10, 80] == 1 and made[0, 0, 60, 80] == 0 and made[0, 0, 10, 10] == 0
    assert 0 < made[0, 0, 10, 63] < 1  # feathered
    assert torch.equal(composite(new, old, better, better + 0.04, 0.05), old)


def test_a_composite_enters_where_it_beats_both(rainy):
    pool, reward = RewardPool(rainy.sizes), RewardConfig(regions=True, fidelity=9)
    sweep(Paint([halves(0.4, 0.5)]), rainy, [0], Mapped(), pool, CPU, reward)
    before = pool.scores[0].clone()
    done, _ = sweep(Paint([halves(0.52, 0.4)]), rainy, [0], Mapped(), pool, CPU, reward)
    assert done.entered == 1 and pool.scores[0] > before
    best = pool.best(0)[0].float() / 255
    assert best[:, 10].mean() == pytest.approx(0.4, abs=0.01) and best[:, 80].mean() == pytest.approx(0.4, abs=0.01)


def test_without_regions_the_worse_candidate_changes_nothing(rainy):
    pools = []
    for scorer in (Mapped(), untrained()):
        pool, reward = RewardPool(rainy.sizes), RewardConfig(fidelity=9)
        sweep(Paint([halves(0.4, 0.5)]), rainy, [0], scorer, pool, CPU, reward)
        pools.append(pool)
    before = pools[0].best(0)[0].clone()
    sweep(Paint([halves(0.52, 0.4)]), rainy, [0], Mapped(), pools[0], CPU, RewardConfig(fidelity=9))
    assert torch.equal(pools[0].best(0)[0], before) and pools[0].maps is None


def test_the_pool_keeps_the_map_of_its_best_version(rainy):
    pool, reward = RewardPool(rainy.sizes, maps=True), RewardConfig(map_weights=True, fidelity=9)
    crops = [Crop(0, 0, 0, False)]
    assert not pool.take_maps(crops, 32).any()
    sweep(Paint([halves(0.4, 0.5)]), rainy, [0], Mapped(), pool, CPU, reward)
    first = pool.take_maps([Crop(0, 0, 0, False), Crop(0, 8, 58, False)], 32)
    assert first[0].max() < 0.02 and first[1].mean() == pytest.approx(0.3, abs=0.02)
    sweep(Paint([halves(0.3, 0.1)]), rainy, [0], Mapped(), pool, CPU, reward)  # which is worse
    assert torch.equal(pool.take_maps([Crop(0, 8, 58, False)], 32), first[1:])
    sweep(Paint([halves(0.43, 0.4)]), rainy, [0], Mapped(), pool, CPU, reward)
    assert pool.take_maps([Crop(0, 8, 58, False)], 32).max() < 0.02


def test_maps_are_cut_by_the_windows_and_flips_of_their_rewards():
    maps, image = PoolMaps([SIZES[0]]), torch.rand(1, 1, 72, 90)
    maps.put(0, image)
    whole = maps.take([Crop(0, 0, 0, False)], 96)[0, 0, :72, :90]
    pixels = (255 * whole).round().to(torch.uint8)[..., None].expand(-1, -1, 3).reshape(-1)
    for crop in (Crop(0, 5, 9, False), Crop(0, 5, 9, True), Crop(0, 60, 80, True)):
        window = torch.tensor([(0, 72, 90, crop.top, crop.left, int(crop.flip))])
        assert torch.equal(maps.take([crop], 24), take_crops(pixels, window, 24)[0][:, :1])


def test_maps_of_a_checkpoint_come_back_and_old_ones_are_clean():
    pool = RewardPool(SIZES, maps=True)
    pool.put_map(1, torch.ones(1, 1, *SIZES[1]))
    again = RewardPool(SIZES, maps=True)
    again.load_state_dict(pool.state_dict())
    assert torch.equal(again.maps.bytes, pool.maps.bytes)
    old = {name: value for name, value in pool.state_dict().items() if name != "maps"}
    again.load_state_dict(old)
    assert not again.maps.bytes.any()
    assert "maps" not in RewardPool(SIZES).state_dict()


def test_rescoring_gives_scores_and_maps_of_the_scorer_as_it_now_is(rainy):
    """Trap 5: scores of different stages are not compared."""
    scorer, pool = untrained(), RewardPool(rainy.sizes, keep=2, maps=True)
    reward = RewardConfig(map_weights=True, fidelity=9)
    scorer.stage = 1
    sweep(Paint([halves(0.4, 0.5)]), rainy, [0], scorer, pool, CPU, reward)
    before, old_map = pool.scores.clone(), pool.maps.bytes.clone()
    scorer.stage = 3
    image = torch.from_numpy(rainy[0].copy())[None].permute(0, 3, 1, 2).float() / 255
    rescore(pool, 0, image, scorer)
    stored = pool.best(0)[0].permute(2, 0, 1)[None].float() / 255
    assert pool.scores[0].max() == scorer.score(stored, image) != before[0].max()
    assert not torch.equal(pool.maps.bytes, old_map)
    assert (pool.scores[0] == before[0]).sum() == 1  # the empty slot stays empty
