"""A whole stage-1 iteration of the small preset: native ops against the reference, on random images.

All do everything the trainer does: forward, backward, clipping, both optimisers and the moving average.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from op_cases import DEVICE

from rgsud_fast.config import Config
from rgsud_fast.data import Domains, ImageSet
from rgsud_fast.iqa import make_scorer
from rgsud_fast.ops import use_backend
from rgsud_fast.trainer import Trainer

SIZE, IMAGES = (160, 160), 4


# Plain PyTorch in the layout it likes best: which one that is depends on the machine.
PROVIDERS = {
    "plain": ("reference", torch.contiguous_format),
    "plain channels last": ("reference", torch.channels_last),
    "native": ("auto", None),
}


@pytest.mark.parametrize("name", PROVIDERS)
def bench_stage1_step(benchmark, name):
    backend, layout = PROVIDERS[name]
    trainer = small_trainer()
    if layout:
        for net in trainer.nets:
            net.to(memory_format=layout)
    sides = trainer.config.batch, 3, trainer.config.crop, trainer.config.crop
    benchmark.extra_info.update(
        case=f"stage-1 step of preset small, {list(sides)}",
        provider=name,
        bytes=2 * 4 * sides[0] * 3 * sides[2] * sides[3],
    )

    def step() -> None:
        trainer.iterate()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    with use_backend(backend):
        benchmark.pedantic(step, rounds=30, iterations=1, warmup_rounds=5)


def small_trainer() -> Trainer:
    """The small preset on images of noise, so that it needs no data."""
    generator = np.random.default_rng(0)
    arrays = [generator.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(IMAGES)]
    images = ImageSet.from_arrays([str(i) for i in range(IMAGES)], arrays)
    scorer = make_scorer(lambda scored: scored.mean(dim=(1, 2, 3)), images, images)
    return Trainer(
        Config(preset="small", optim={"discriminator_warmup": 0}), Domains(images, images), scorer, torch.device(DEVICE)
    )
