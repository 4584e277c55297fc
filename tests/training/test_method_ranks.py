"""Two processes train every method as one does, in both stages."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_ranks import CPU, advance, same, trainer_of, weights_of
from tiny import TINY_METHODS

from rgsud_fast.methods.build import METHODS
from rgsud_fast.system.distributed import Ranks

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this PyTorch is built without torch.distributed")
# Of RGSUD's ranks there are tests of their own; UniRain learns from labelled pairs, which are not here.
OTHERS = [name for name in METHODS if name not in ("rgsud", "unirain")]
STEPS = 3
FIRST = {"first": "oriented", "fidelity": 9.0, "keep": 2, "mirror": False, "grey_layer": False}


def trained(ranks):
    """The weights of each method's networks before and after a step of stage 1 and two of stage 2; earlier fakes."""
    found = {}
    for name in OTHERS:
        stages = {"stage1_iterations": 1, "stage2_iterations": 10}
        reward = FIRST | {"sweep_start": 1.0, "sweep_every": 9, "sweep_images": 1}
        optim = {"discriminator_warmup": 2, "discriminator_reals": 2, "fake_buffer": 4}
        fields = TINY_METHODS[name] | stages | {"preset": "small", "method": name, "reward": reward, "optim": optim}
        trainer = trainer_of(ranks, **fields)
        trainer.seed_rewards()
        start = weights_of(trainer)
        advance(trainer, STEPS)
        found[name] = start, weights_of(trainer), trainer.standing().rewards, trainer.state_dict()["buffers"]
    return found


def call(rank, count, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    torch.save(trained(Ranks(CPU, count)), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_every_method_learns_on_two_ranks_what_it_does_on_one(tmp_path):
    alone = trained(Ranks(CPU))
    mp.spawn(call, (2, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name, (start, weights, rewards, buffers) in alone.items():
        assert rewards > 0, name  # or stage 2 would be stage 1
        assert same(first[name][1], second[name][1])
        assert buffers and buffers.keys() == first[name][3].keys()
        for judge, kept in buffers.items():
            assert int(first[name][3][judge]["seen"]) == int(kept["seen"]) == STEPS
            gap = (first[name][3][judge]["bytes"].float() - kept["bytes"].float()).abs().mean()
            assert gap < 1, f"{name}, {judge}: {gap} grey levels"
        moved = sum(float((weights[key] - start[key]).abs().sum()) for key in weights)
        apart = sum(float((weights[key] - first[name][1][key]).abs().sum()) for key in weights)
        assert moved > 0 and apart < 0.02 * moved, f"{name}: {apart / moved}"
