"""The recorded training step does what the eager one does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import TINY_NETWORKS

from rgsud_fast.config import Config
from rgsud_fast.data import Domains, FolderSet
from rgsud_fast.iqa import make_scorer
from rgsud_fast.training.trainer import Trainer


def small_trainer(graphed: bool) -> Trainer:
    generator = np.random.default_rng(0)
    arrays = [generator.integers(0, 256, (48, 48, 3), dtype=np.uint8) for _ in range(3)]
    images = FolderSet.from_arrays(["a", "b", "c"], arrays)
    scorer = make_scorer(lambda scored: scored.mean(dim=(1, 2, 3)), images, images)
    config = Config(
        preset="small-gan", batch=2, crop=32, stage1_iterations=10, stage2_iterations=10, precision="float32",
        cuda_graph=graphed, network=TINY_NETWORKS, optim={"discriminator_warmup": 2},
    )  # fmt: skip
    return Trainer(config, Domains(images, images), scorer, torch.device("cuda"))


@pytest.mark.cuda
def test_twenty_recorded_steps_equal_twenty_eager_ones():
    eager, graphed = small_trainer(False), small_trainer(True)
    for step in range(20):
        if step == 8:  # so that stage 2 has rewards
            eager.sweep(), graphed.sweep()
        a, b = eager.iterate(), graphed.iterate()
        torch.testing.assert_close(b.loss, a.loss, rtol=1e-4, atol=1e-4)
    for one, other in zip(eager.nets, graphed.nets, strict=True):
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4)


@pytest.mark.cuda
def test_a_recorded_step_never_waits_for_the_device():
    trainer = small_trainer(True)
    for _ in range(6):
        trainer.iterate()
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.iterate()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_recording_is_for_gpus_alone():
    config = Config(preset="small-gan", network=TINY_NETWORKS, cuda_graph=True)
    images = FolderSet.from_arrays(["a"], [np.zeros((64, 64, 3), dtype=np.uint8)])
    scorer = make_scorer(lambda scored: scored.mean(dim=(1, 2, 3)), images, images)
    trainer = Trainer(config, Domains(images, images), scorer, torch.device("cpu"))
    assert not isinstance(trainer.train_step.optimizer.param_groups[0]["lr"], torch.Tensor)
