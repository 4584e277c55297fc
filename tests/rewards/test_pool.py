"""The reward pool: keeps the best, cuts aligned crops, says which images have a reward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rgsud_fast.data import FolderSet, draw, to_batch
from rgsud_fast.data.image_files import quantise
from rgsud_fast.errors import UserError
from rgsud_fast.rewards.pool import RewardPool
from rgsud_fast.rewards.pool_memory import lay_out

SIZES = [(40, 50), (33, 35), (64, 48)]


def image(seed: int, size: tuple[int, int]) -> torch.Tensor:
    return torch.rand(3, *size, generator=torch.Generator().manual_seed(seed))


def offer(pool: RewardPool, index: int, score: float, seed: int = 0) -> bool:
    return bool(pool.update([index], image(seed, SIZES[index])[None], torch.tensor([score])))


def rainy_set():
    """Rainy images of these sizes."""
    rng = np.random.default_rng(0)
    return FolderSet.from_arrays("abc", [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES])


def take(pool, rainy, crops, side):
    """Rainy crops, reward crops, and which of these exist."""
    return pool.take(torch.from_numpy(rainy.pixels.copy()), crops, side)


def test_an_empty_pool_has_no_reward():
    _, rewards, improved = take(RewardPool(SIZES), rainy_set(), draw(0, 0, 4, SIZES, 32, "rainy"), 32)
    assert not improved.any()
    assert (rewards == 0).all()


def test_the_first_version_enters_and_a_worse_one_does_not():
    pool = RewardPool(SIZES)
    assert offer(pool, 1, -3.0, seed=1)
    assert not offer(pool, 1, -3.0, seed=2)
    assert not offer(pool, 1, -4.0, seed=3)
    assert offer(pool, 1, -2.0, seed=4)
    stored, score = pool.best(1)
    assert score == -2
    assert torch.equal(stored.permute(2, 0, 1), quantise(image(4, SIZES[1])))
    assert pool.filled.tolist() == [False, True, False]


def test_a_margin_must_be_exceeded():
    pool = RewardPool(SIZES, margin=0.5)
    assert offer(pool, 0, 1.0)
    assert not offer(pool, 0, 1.4)
    assert offer(pool, 0, 1.6)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_not_finite_are_refused(score):
    pool = RewardPool(SIZES)
    assert not offer(pool, 0, score)
    assert not pool.filled.any()
    assert pool.mean_score() == 0


@settings(max_examples=40, deadline=None)
@given(
    keep=st.integers(1, 3),
    offers=st.lists(st.tuples(st.integers(0, 2), st.floats(-9, 9, width=32)), max_size=25),
)
def test_any_offers_leave_the_best_k_of_each_image(keep, offers):
    pool = RewardPool(SIZES, keep=keep)
    best_before = torch.full((3,), float("-inf"))
    for number, (index, score) in enumerate(offers):
        offer(pool, index, score, seed=number)
        best = pool.scores.max(dim=1).values
        assert (best >= best_before).all()
        best_before = best
    for index in range(3):
        scores = sorted((score for i, score in offers if i == index), reverse=True)[:keep]
        kept = sorted((s for s in pool.scores[index].tolist() if s > float("-inf")), reverse=True)
        assert kept == pytest.approx(scores)


def test_reward_crops_align_with_rainy_crops():
    # The trap of the spec: with pool = rainy image, rainy crop - reward crop is exactly zero for any crop.
    rainy, pool = rainy_set(), RewardPool(SIZES)
    for index in range(len(rainy)):
        pool.update([index], to_batch(rainy[index]), torch.tensor([1.0]))
    for side in (32, 45, 70):  # 45 and 70 are larger than some images: reflected
        for step in range(5):
            crops = draw(3, step, 4, SIZES, side, "rainy")
            images, rewards, improved = take(pool, rainy, crops, side)
            assert improved.all()
            assert torch.equal(images, rewards)
            assert images.std() > 0.1


def test_of_several_versions_a_crop_is_their_mean():
    pool = RewardPool(SIZES, keep=3)
    crops = draw(0, 0, 1, SIZES, 32, "rainy")
    index = crops[0].index
    alone, rainy = [], rainy_set()
    for seed in (1, 2):
        single = RewardPool(SIZES)
        offer(single, index, 1.0, seed=seed)
        alone.append(take(single, rainy, crops, 32)[1])
        offer(pool, index, float(seed), seed=seed)
    torch.testing.assert_close(take(pool, rainy, crops, 32)[1], (alone[0] + alone[1]) / 2)


def test_state_restores_the_same_bits():
    pool, again = RewardPool(SIZES, keep=2), RewardPool(SIZES, keep=2)
    offer(pool, 0, 1.0, seed=5)
    offer(pool, 2, 2.0, seed=6)
    again.load_state_dict(pool.state_dict())
    assert torch.equal(pool.tiers[0].arena, again.tiers[0].arena)
    assert torch.equal(pool.scores, again.scores)


def test_an_image_of_the_wrong_size_is_named():
    with pytest.raises(ValueError, match=r"image 1 must be \[3, 33, 35\]"):
        RewardPool(SIZES).update([1], torch.zeros(1, 3, 40, 50), torch.tensor([1.0]))


@pytest.mark.parametrize("other", [RewardPool(SIZES, keep=2), RewardPool(SIZES[:2])], ids=["keep", "images"])
def test_the_state_of_another_pool_is_refused(other):
    with pytest.raises(ValueError, match="the pool's"):
        RewardPool(SIZES).load_state_dict(other.state_dict())


def total():
    return sum(3 * height * width for height, width in SIZES)


@pytest.fixture(params=[0, 1, 2, 3], ids=lambda images: f"{images} in memory")
def cut_pool(request, tmp_path):
    """Makes pools of which so many images fit the memory; the others lie in a file."""
    room = sum(3 * height * width for height, width in SIZES[: request.param])
    return lambda keep=1: RewardPool(SIZES, keep, device_bytes=keep * room, file=tmp_path / "pool.bytes")


def test_where_the_bytes_lie_changes_nothing(cut_pool):
    plain, cut, rainy = RewardPool(SIZES, keep=2), cut_pool(keep=2), rainy_set()
    generator = np.random.default_rng(1)
    for number in range(20):
        index, score = int(generator.integers(3)), float(generator.normal())
        assert offer(plain, index, score, seed=number) == offer(cut, index, score, seed=number)
        crops = draw(0, number, 4, SIZES, 40, "rainy")
        for one, other in zip(take(plain, rainy, crops, 40), take(cut, rainy, crops, 40), strict=True):
            assert torch.equal(one, other)
    assert torch.equal(plain.scores, cut.scores)
    for index in range(3):
        assert torch.equal(plain.best(index)[0], cut.best(index)[0])
    assert plain.mean_score() == cut.mean_score()


def test_candidates_of_one_batch_may_lie_in_several_places(tmp_path):
    sizes = [(40, 50)] * 3
    pool = RewardPool(sizes, device_bytes=2 * 40 * 50 * 3, file=tmp_path / "pool.bytes")
    images = torch.stack([image(seed, sizes[0]) for seed in range(4)])
    scores = torch.tensor([1.0, float("nan"), 2.0, 3.0])
    assert pool.update([0, 1, 2, 2], images, scores).tolist() == [True, False, True, True]
    assert pool.scores.flatten().tolist() == [1.0, float("-inf"), 3.0]
    assert torch.equal(pool.best(2)[0].permute(2, 0, 1), quantise(images[3]))


def test_a_pool_is_resumed_with_other_budgets(cut_pool):
    pool, again = RewardPool(SIZES, keep=2), cut_pool(keep=2)
    for index, seed in ((0, 5), (2, 6), (2, 7), (1, 8)):
        offer(pool, index, float(seed), seed=seed)
    again.load_state_dict(pool.state_dict())
    back = RewardPool(SIZES, keep=2)
    back.load_state_dict(again.state_dict())
    for index in range(3):
        assert torch.equal(pool.versions(index), again.versions(index))
        assert torch.equal(pool.versions(index), back.versions(index))
    assert offer(again, 1, 9.0, seed=9)  # and goes on


def test_rewards_on_the_host_are_not_pinned():
    # Only crops are copied from there; and without a GPU nothing can be pinned at all.
    [tier] = lay_out([0, 300, 600], 2, torch.device("cuda"), device_bytes=0, host_bytes=2000)
    assert tier.kind == "host" and tier.arena.device.type == "cpu" and tier.arena.shape == (2, 600)


def test_without_a_file_too_small_a_budget_is_named():
    with pytest.raises(UserError, match="reward pool lacks"):
        RewardPool(SIZES, device_bytes=total() - 1)


def test_says_what_it_takes(cut_pool):
    assert "MiB in" in cut_pool().where()


def test_decay_lets_a_slightly_worse_version_in(cut_pool):
    pool = cut_pool()
    for index in range(3):
        offer(pool, index, 1.0)
    assert not offer(pool, 2, 0.8)
    pool.decay(0.5)
    assert pool.scores.tolist() == [[0.5]] * 3
    assert offer(pool, 2, 0.8) and offer(pool, 0, 0.6)
    empty = cut_pool()
    empty.decay(1.0)
    assert not empty.filled.any()


def test_evicting_empties_what_is_below_and_nothing_else(cut_pool):
    pool = cut_pool(keep=2)
    for score in (1.0, 3.0):
        for index in range(3):
            offer(pool, index, score)
    pool.evict(1, torch.tensor(2.0))
    assert pool.scores[1].sort().values.tolist() == [float("-inf"), 3.0]
    assert torch.isfinite(pool.scores[[0, 2]]).all()
    pool.evict(1, torch.tensor(4.0))
    assert pool.filled.tolist() == [True, False, True]


def test_rescoring_replaces_scores_and_leaves_empty_slots_empty(cut_pool):
    pool = cut_pool(keep=2)
    offer(pool, 2, 1.0)
    pool.rescore(2, torch.tensor([7.0, 7.0]))
    assert sorted(pool.scores[2].tolist()) == [float("-inf"), 7.0]
    pool.rescore(2, torch.tensor([float("nan"), float("nan")]))
    assert not pool.filled.any()


def test_a_pool_wholly_off_the_device_still_cuts_where_its_bytes_are(tmp_path):
    # On a device without memory at all: what lies in the file is cut there, and only then sent.
    pool = RewardPool(SIZES, device="meta", device_bytes=0, host_bytes=0, file=tmp_path / "pool.bytes")
    _, rewards, improved = pool.take(None, draw(0, 0, 4, SIZES, 32, "rainy"), 32)
    assert rewards.shape == (4, 3, 32, 32)
    assert rewards.device.type == improved.device.type == "meta"
