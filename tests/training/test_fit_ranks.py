"""Two processes whose reward is FinPercep-RM: the first fits it, and both score alike from then on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mapped import untrained
from test_ranks import CPU, same, weights_of
from tiny import NO_GENERATOR, TINY_NETWORKS

from rgsud_fast.config import Config
from rgsud_fast.data import Domains, FolderSet
from rgsud_fast.iqa.finpercep import fit as fitting
from rgsud_fast.rewards import own_faults
from rgsud_fast.system.distributed import Ranks
from rgsud_fast.training.trainer import Trainer

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this PyTorch is built without torch.distributed")
REWARD = {"scorer": "finpercep", "curriculum": "schedule", "map_weights": True, "fit_iterations": 3, "fidelity": 9.0}
REWARD |= {"first": "oriented", "sweep_start": 0.5, "sweep_every": 2}


def images(seed: int) -> FolderSet:
    rng = np.random.default_rng(seed)
    return FolderSet.from_arrays([*"abcdefgh"], [rng.integers(0, 256, (40, 44, 3), dtype=np.uint8) for _ in range(8)])


def train(ranks: Ranks) -> dict:
    """A run with both stages; the scorer that it ends with, its weights and its pool's mean score."""
    fitting.RECIPES["small"] = fitting.Recipe(32, 2, 6, 3e-3)
    own_faults.CROPS = 3
    config = Config(
        **{"batch": 4, "crop": 32, "stage1_iterations": 4, "stage2_iterations": 4, "network": TINY_NETWORKS},
        **{"loss": NO_GENERATOR | {"pasted": 1.0}, "reward": REWARD},
    )
    scorer = untrained(0)
    trainer = Trainer(config, Domains(images(0), images(1), []), scorer, CPU, ranks=ranks)
    trainer.seed_rewards()
    stages = []
    while not trainer.ended:
        moved = trainer.reward_stages.move_on()
        stages += [] if moved is None else [moved.stage]
        if trainer.sweep_due():
            trainer.sweep()
            trainer.reward_stages.note_held_out(None)
        trainer.iterate()
    return {
        "stages": stages,
        "scorer": scorer.state(),
        "weights": weights_of(trainer),
        "mean": float(trainer.pool.mean_score()),
    }


def call(rank, count, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    torch.save(train(Ranks(CPU, count)), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_a_score_that_the_first_rank_fits_is_that_of_both(tmp_path):
    mp.spawn(call, (2, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first["stages"] == second["stages"] == [1, 2, 3]
    assert any(name.startswith("3.") for name in first["scorer"])
    assert same(first["scorer"], second["scorer"]) and same(first["weights"], second["weights"])
    assert first["mean"] == second["mean"]
