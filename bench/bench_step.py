"""A whole stage-1 iteration of the small preset: native ops against plain PyTorch, on random images.

All do everything the trainer does: forward, backward, clipping, both optimisers and the moving average.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from op_cases import COMPILE, DEVICE, Provider, race

from rgsud_fast.config import Config
from rgsud_fast.data import Domains, ImageSet
from rgsud_fast.iqa import make_scorer
from rgsud_fast.stages import Networks
from rgsud_fast.trainer import Trainer

SIZE, IMAGES = (160, 160), 4
# Plain PyTorch in the layout it likes best: which one that is depends on the machine.
PLAIN = {"plain": torch.contiguous_format, "plain channels last": torch.channels_last}


@pytest.mark.parametrize("name", [*PLAIN, *(["compile"] if COMPILE else []), "native"])
def bench_stage1_step(benchmark, name):
    rivals = {plain: trainer_in(layout).iterate for plain, layout in PLAIN.items()}
    if name in PLAIN:
        provider = Provider(name, rivals[name], "reference", {})
    elif name == "compile":
        trainer = trainer_in(torch.channels_last)
        trainer.called = Networks(*(torch.compile(net, dynamic=False) for net in trainer.called))
        provider = Provider(name, trainer.iterate, "reference", rivals)
    else:
        provider = Provider(name, trainer_in(None).iterate, "auto", rivals)
    config = Config(preset="small")
    sides = [config.batch, 3, config.crop, config.crop]
    benchmark.extra_info.update(
        case=f"stage-1 step of preset small, {sides}", bytes=2 * 4 * sides[0] * 3 * sides[2] * sides[3]
    )
    race(benchmark, provider, lambda iterate: iterate(), rounds=30, warm_up=5)


def trainer_in(layout: torch.memory_format | None) -> Trainer:
    """The small preset, its weights in a memory layout, on images of noise, so that it needs no data."""
    generator = np.random.default_rng(0)
    arrays = [generator.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(IMAGES)]
    images = ImageSet.from_arrays([str(i) for i in range(IMAGES)], arrays)
    scorer = make_scorer(lambda scored: scored.mean(dim=(1, 2, 3)), images, images)
    config = Config(preset="small", optim={"discriminator_warmup": 0})
    trainer = Trainer(config, Domains(images, images), scorer, torch.device(DEVICE))
    for net in trainer.nets if layout else ():
        net.to(memory_format=layout)
    return trainer
