"""The pool over two processes holds what one pool holds, gives every rank its crops, and becomes one again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from rgsud_fast.data import draw
from rgsud_fast.rewards.distributed_pool import ShardedPool
from rgsud_fast.rewards.pool import RewardPool
from rgsud_fast.system.distributed import Ranks

SIZES = [(40, 50), (33, 35), (64, 48), (40, 41), (36, 60)]
RANKS, SIDE, BATCH = 2, 32, 6


def offers():
    """A sweep's candidates, in order: image, version, score."""
    rng = np.random.default_rng(0)
    order = [*range(len(SIZES) - 1), 3, 0, 2]
    return [(i, torch.rand(1, 3, *SIZES[i], generator=torch.Generator().manual_seed(n)), float(rng.normal()))
            for n, i in enumerate(order)]  # fmt: skip


def crops():
    return draw(0, 0, BATCH, SIZES, SIDE, "rainy")


def filled_pool(pool, mine):
    for index, image, score in offers():
        if mine(index):
            pool.update([index], image, torch.tensor([score]))
            pool.put_map(index, image.mean(1, keepdim=True), torch.tensor([score]))
    pool.decay(0.25)
    if mine(1):
        pool.evict(1, torch.tensor(100.0))
    if mine(3):
        pool.rescore(3, torch.tensor([0.5, 0.75]))
    return pool


def work(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS)
    ranks = Ranks(torch.device("cpu"), RANKS)
    options = {"keep": 2, "maps": True}
    sharded = ShardedPool(SIZES, ranks, **options, device_bytes=15_000, file=Path(folder) / f"pool-{rank}.bytes")
    pool = filled_pool(sharded, lambda index: index % RANKS == rank)
    again = ShardedPool(SIZES, ranks, **options)
    empty = again.take(crops(), SIDE)
    again.load_state_dict(torch.load(f"{folder}/alone.pt", weights_only=True))
    found = {
        "tiers": len(pool.tiers),
        "taken": (*pool.take(crops(), SIDE), pool.take_maps(crops(), SIDE)),
        "again": (*again.take(crops(), SIDE), again.take_maps(crops(), SIDE)),
        "empty": bool(empty[1].any()),
        "filled": pool.filled,
        "mean": float(pool.mean_score()),
        "state": pool.state_dict(),
        "whole": pool.whole() is not None,
    }
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="this PyTorch is built without torch.distributed")
def test_two_ranks_hold_and_give_what_one_pool_does(tmp_path):
    alone = filled_pool(RewardPool(SIZES, keep=2, maps=True), lambda index: True)
    torch.save(alone.state_dict(), tmp_path / "alone.pt")
    mp.spawn(work, (str(tmp_path),), nprocs=RANKS)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(RANKS)]
    _, rewards, improved = alone.take(None, crops(), SIDE)
    assert 0 < int(improved.sum()) < BATCH
    for one in found:
        assert one["tiers"] == 2  # some of it in a mapped file
        for name in ("taken", "again"):
            torch.testing.assert_close(one[name][0][improved], rewards[improved], rtol=0, atol=1e-6)
            assert torch.equal(one[name][1], improved)
            assert torch.equal(one[name][2], alone.take_maps(crops(), SIDE))
        assert not one["empty"]
        assert torch.equal(one["filled"], alone.filled)
        assert one["mean"] == pytest.approx(float(alone.mean_score()))
    assert [one["whole"] for one in found] == [True, False] and found[1]["state"] == {}
    whole = RewardPool(SIZES, keep=2, maps=True)
    whole.load_state_dict(found[0]["state"])
    assert torch.equal(whole.scores, alone.scores) and torch.equal(whole.maps.bytes, alone.maps.bytes)
    for index in (0, 2, 3):
        assert torch.equal(whole.versions(index), alone.versions(index))


def test_a_share_is_restored_from_the_first_files_as_well():
    alone = filled_pool(RewardPool(SIZES, keep=2), lambda index: True)
    state = alone.state_dict()
    pool = ShardedPool(SIZES, Ranks(torch.device("cpu")), keep=2)
    pool.load_state_dict({"arena": torch.cat(state["arenas"], dim=1), "scores": state["scores"]})
    assert all(map(torch.equal, pool.take(crops(), SIDE), alone.take(None, crops(), SIDE)[1:]))
