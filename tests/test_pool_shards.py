"""The pool over two processes holds what one pool holds, and gives every rank its crops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from rgsud_fast.data import draw
from rgsud_fast.pool import RewardPool
from rgsud_fast.pool_shards import ShardedPool

SIZES = [(40, 50), (33, 35), (64, 48), (40, 41), (36, 60)]
RANKS, SIDE, BATCH = 2, 32, 3


def offers():
    """A sweep's candidates, in order: image, version, score."""
    rng = np.random.default_rng(0)
    order = [*range(len(SIZES)), 3, 0, 4]
    return [(i, torch.rand(1, 3, *SIZES[i], generator=torch.Generator().manual_seed(n)), float(rng.normal()))
            for n, i in enumerate(order)]  # fmt: skip


def work(rank, rendezvous, results):
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=RANKS)
    pool = ShardedPool(SIZES, keep=2)
    for n, (index, image, score) in enumerate(offers()):
        if n % RANKS == rank:  # the sweep is divided by turns, not by owner
            pool.update([index], image, torch.tensor([score]))
    pool.exchange()
    crops = draw(0, 0, RANKS * BATCH, SIZES, SIDE, "rainy")[rank * BATCH : (rank + 1) * BATCH]
    rewards, improved = pool.take(crops, SIDE)
    again = ShardedPool(SIZES, keep=2)
    empty = again.take(crops, SIDE)
    again.load_state_dict(pool.state_dict())
    same = torch.equal(again.take(crops, SIDE)[0], rewards)
    results[rank] = (
        pool.own,
        pool.shard.scores,
        rewards,
        improved,
        float(pool.mean_score()),
        same,
        bool(empty[1].any()),
    )
    try:
        again.load_state_dict(pool.state_dict() | {"ranks": 3})
    except ValueError as error:
        results[f"error {rank}"] = str(error)
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="this PyTorch is built without torch.distributed")
def test_two_ranks_hold_and_give_what_one_pool_does(tmp_path):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(work, (str(tmp_path / "rendezvous"), results), nprocs=RANKS)
        results = dict(results)
    alone = RewardPool(SIZES, keep=2)
    for index, image, score in offers():
        alone.update([index], image, torch.tensor([score]))
    _, rewards, improved = alone.take(None, draw(0, 0, RANKS * BATCH, SIZES, SIDE, "rainy"), SIDE)
    assert improved.all()
    for rank in range(RANKS):
        own, scores, got, there, mean, same, empty = results[rank]
        assert own == list(range(rank, len(SIZES), RANKS))
        assert torch.equal(scores.sort(dim=1).values, alone.scores[own].sort(dim=1).values)
        torch.testing.assert_close(got, rewards[rank * BATCH : (rank + 1) * BATCH])
        assert there.all() and same and not empty
        assert mean == pytest.approx(float(alone.mean_score()))
        assert "saved one" in results[f"error {rank}"]
