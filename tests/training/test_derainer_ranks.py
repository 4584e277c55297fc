"""Two processes train every derainer as one does, also those of which a part learns nothing, and block by block."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_ranks import CPU, advance, same, trainer_of, weights_of
from tiny import TINY_DERAINERS, TINY_NETWORKS

from rgsud_fast.system.distributed import Ranks

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this PyTorch is built without torch.distributed")
STEPS = 2


def trained(ranks):
    """The weights of each derainer after some steps, and before."""
    found = {}
    for name, sizes in TINY_DERAINERS.items():
        trainer = trainer_of(ranks, network={**TINY_NETWORKS, **sizes, "derainer": name, "checkpoint": "block"})
        start = weights_of(trainer)
        advance(trainer, STEPS)
        found[name] = start, weights_of(trainer)
    return found


def call(rank, count, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    torch.save(trained(Ranks(CPU, count)), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_every_derainer_learns_on_two_ranks_what_it_does_on_one(tmp_path):
    alone = trained(Ranks(CPU))
    mp.spawn(call, (2, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name, (start, weights) in alone.items():
        assert same(first[name][1], second[name][1])
        derainer = [key for key in weights if key.startswith("derainer")]
        moved = sum(float((weights[key] - start[key]).abs().sum()) for key in derainer)
        apart = sum(float((weights[key] - first[name][1][key]).abs().sum()) for key in derainer)
        assert moved > 0 and apart < 0.02 * moved, name
