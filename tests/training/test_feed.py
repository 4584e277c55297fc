"""What an iteration learns from: the same crops wherever the images' bytes are, and rewards that go with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rgsud_fast.config import Config
from rgsud_fast.data import Domains, FolderSet, to_batch
from rgsud_fast.rewards.pool import RewardPool
from rgsud_fast.system.distributed import Ranks
from rgsud_fast.training.feed import Feed

SIZES = [(40, 50), (64, 48), (33, 70)]


@pytest.fixture
def domains():
    rng = np.random.default_rng(0)
    sets = [[rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES] for _ in range(2)]
    return Domains(*(FolderSet.from_arrays("abc", images) for images in sets))


def feed_of(domains, device="cpu", reals=3):
    return Feed(
        Config(preset="small-gan", crop=32, optim={"discriminator_reals": reals}), domains, torch.device(device)
    )


@pytest.mark.parametrize("reals", [1, 3])
def test_shapes_and_ranges(domains, reals):
    images = feed_of(domains, reals=reals).images(0)
    assert images.keys() == {"rainy", "clean", "reals"}
    assert images["rainy"].shape == images["clean"].shape == (4, 3, 32, 32)
    assert images["reals"].shape == (4 * reals, 3, 32, 32)
    assert torch.equal(images["reals"][:4], images["rainy"])
    assert 0 <= images["rainy"].min() < images["rainy"].max() <= 1


def test_a_step_has_the_same_crops_every_time_and_the_next_has_others(domains):
    first, again = feed_of(domains).images(7), feed_of(domains).images(7)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["rainy"], feed_of(domains).images(8)["rainy"])


def test_rewards_are_crops_of_the_same_windows(domains):
    pool, feed = RewardPool(domains.rainy.sizes), feed_of(domains)
    for index in (0, 2):
        pool.update([index], 1 - to_batch(domains.rainy[index]), torch.tensor([1.0]))
    seen = set()
    for step in range(6):
        images = feed.images(step, pool)
        assert torch.equal(images["rainy"], feed.images(step)["rainy"])
        for rainy, reward, improved in zip(images["rainy"], images["rewards"], images["improved"], strict=True):
            torch.testing.assert_close(reward, 1 - rainy if improved else torch.zeros_like(rainy))
            seen.add(bool(improved))
    assert seen == {False, True}


def pasting(domains, batch=4, **loss):
    weights = {"adversarial": 0, "pair": 0, "pasted": 1, "channel_consistency": 0, "background_guidance": 0} | loss
    config = Config(preset="small-gan", batch=batch, crop=32, loss=weights, reward={"first": "oriented"})
    return Feed(config, domains, torch.device("cpu"))


def darker(domains, factor, indices):
    """A pool in which these images' rewards are darker by a factor: what they take away is grey where the image is."""
    pool = RewardPool(domains.rainy.sizes)
    for index in indices:
        pool.update([index], factor * to_batch(domains.rainy[index]), torch.tensor([1.0]))
    return pool


def test_what_is_pasted_is_what_rewards_took_away(domains):
    feed, gains = pasting(domains, pasted_gain=(0.5, 1.5)), set()
    for step in range(4):
        images = feed.images(step, None, darker(domains, 0.8, [0, 1, 2]))
        assert images.keys() == {"clean", "pasted", "backgrounds"}  # without a generator nobody sees the rest
        assert torch.equal(images["backgrounds"], images["clean"])
        crops = feed._cut("layers", feed._draw("layers", step))
        light = (0.2 * crops).mean(1, keepdim=True)
        for pasted, clean, rain in zip(images["pasted"], images["clean"], light, strict=True):
            inside = (pasted < 0.999) & (rain > 0.05)
            gain = ((pasted - clean) / rain)[inside]
            assert gain.std() < 0.03 and 0.48 < gain.mean() < 1.52
            gains.add(round(float(gain.mean()), 2))
    assert len(gains) > 8


def test_without_a_reward_nothing_is_pasted(domains):
    images = pasting(domains).images(0, None, RewardPool(domains.rainy.sizes))
    assert torch.equal(images["pasted"], images["clean"])


def test_a_share_of_the_crops_is_pasted_and_a_share_of_these_on_rewards(domains):
    feed, pool, onto = pasting(domains, pasted_share=0.5, pasted_on_rewards=0.2), darker(domains, 0.5, [0, 1, 2]), 0
    for step in range(10):
        images = feed.images(step, None, pool)
        assert len(images["pasted"]) == len(images["backgrounds"]) == 2
        clean = {tuple(crop.flatten()[:9].tolist()) for crop in images["clean"]}
        onto += sum(tuple(crop.flatten()[:9].tolist()) not in clean for crop in images["backgrounds"])
    assert onto == 4  # a fifth of twenty


def test_several_ranks_paste_what_one_pastes(domains):
    class Half(Ranks):
        def __init__(self, rank):
            super().__init__(torch.device("cpu"))
            self.rank, self.count = rank, 2

    feed, pool = pasting(domains, pasted_share=0.5, pasted_on_rewards=0.5), darker(domains, 0.7, [0, 2])
    for step in range(3):
        whole, parts = feed.images(step, None, pool), []
        for rank in (0, 1):
            share = pasting(domains, pasted_share=0.5, pasted_on_rewards=0.5)
            share.ranks = Half(rank)
            parts.append(share.images(step, None, pool))
        for name in ("pasted", "backgrounds"):
            assert torch.equal(torch.cat([part[name] for part in parts]), whole[name])


@pytest.mark.cuda
@pytest.mark.parametrize("share", [0.25, 0.0], ids=["on the GPU", "on the host"])
def test_the_gpu_gets_the_same_crops_wherever_the_bytes_are(domains, monkeypatch, share):
    monkeypatch.setattr("rgsud_fast.training.feed.RESIDENT_SHARE", share)
    here, there = feed_of(domains), feed_of(domains, "cuda")
    pools = [RewardPool(domains.rainy.sizes, device=device) for device in ("cpu", "cuda")]
    for pool in pools:
        image, score = to_batch(domains.rainy[1]), torch.tensor([1.0])
        pool.update([1], image.to(pool.device), score.to(pool.device))
    for step in range(3):
        mine, theirs = (feed.images(step, pool) for feed, pool in zip((here, there), pools, strict=True))
        for name, value in mine.items():
            assert theirs[name].is_cuda
            assert torch.equal(theirs[name].cpu(), value), name
