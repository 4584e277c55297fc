"""Labelled pairs on several processes: the same steps, weights of types and figures as on one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny import TINY_NETWORKS, darkness

from rgsud_fast.config import Config
from rgsud_fast.data import Domains, FolderSet
from rgsud_fast.data.open_pairs import render_demo_pairs, validation_pairs
from rgsud_fast.iqa import CallableScorer
from rgsud_fast.system.distributed import Ranks
from rgsud_fast.training.trainer import Trainer
from rgsud_fast.training.validation import validate

CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this PyTorch is built without torch.distributed")


def train_all(ranks):
    clean = np.random.default_rng(0).integers(0, 256, (4, 40, 48, 3), dtype=np.uint8)
    pairs = render_demo_pairs(FolderSet.from_arrays([str(i) for i in range(4)], clean))
    config = Config(
        preset="unirain-small",
        batch=4,
        crop=32,
        network=TINY_NETWORKS,
        stage1_iterations=30,
        reweight={"every": 2},
        data={"balance": "equal"},
    )
    domains = Domains(pairs.rainy, pairs.clean, validation_pairs(pairs), pairs=pairs)
    trainer = Trainer(config, domains, CallableScorer(darkness), CPU, ranks=ranks)
    for _ in range(26):
        if trainer.type_weights.due(trainer.step):
            trainer.type_weights.measure(trainer.derainer)
        trainer.iterate()
    figures = validate(trainer.derainer, domains.val, CPU, ranks=ranks)
    state = trainer.state_dict()
    trainer.collect_rewards()
    weights = {name: p.detach().clone() for name, p in trainer.nets.derainer.named_parameters()}
    return {"weights": weights, "losses": trainer.type_weights.losses, "figures": figures, "step": state["step"]}


def test_two_ranks_of_half_a_batch_train_as_one_of_a_whole_one(tmp_path):
    alone = train_all(Ranks(CPU))
    mp.spawn(call, (2, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    assert len(alone["losses"]) == 12
    assert first["losses"] == second["losses"]
    assert np.allclose(alone["losses"], first["losses"], rtol=1e-3)
    for name, weight in alone["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name])
        assert torch.allclose(weight, first["weights"][name], atol=2e-4), name
    assert {"psnr_rgb_drs", "types_spread"} <= alone["figures"].keys()
    assert first["figures"] == second["figures"] == pytest.approx(alone["figures"], abs=1e-2)


def call(rank, count, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=count)
    torch.save(train_all(Ranks(CPU, count)), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
