"""A whole stage-1 iteration: native ops against plain PyTorch, on random images; on the GPU also of preset paper.

All do everything the trainer does: forward, backward, clipping, both optimisers and the moving average.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from op_cases import COMPILE, DEVICE, Provider, race
from torch.utils.flop_counter import FlopCounterMode

from rgsud_fast.config import Config
from rgsud_fast.data import Domains, FolderSet
from rgsud_fast.iqa import make_scorer
from rgsud_fast.methods.rgsud import Networks
from rgsud_fast.ops import use_backend
from rgsud_fast.training.trainer import Trainer

IMAGES = 4
GPU = DEVICE == "cuda"
# Plain PyTorch in the layout it likes best: which one that is depends on the machine.
PLAIN = {"plain": torch.contiguous_format, "plain channels last": torch.channels_last}
NAMES = [*PLAIN, *(["compile"] if COMPILE else []), "native", *(["native as a graph"] if GPU else [])]


@pytest.mark.parametrize("preset", ["small", "small-gan", *(["paper"] if GPU else [])])
@pytest.mark.parametrize("name", NAMES)
def bench_stage1_step(benchmark, name, preset):
    # On a GPU one at a time: plain PyTorch alone keeps 23 GB of preset paper.
    rivals = {} if GPU else {plain: trainer_in(layout, preset).iterate for plain, layout in PLAIN.items()}
    if name in PLAIN:
        iterate = rivals[name] if rivals else trainer_in(PLAIN[name], preset).iterate
        provider = Provider(name, iterate, "reference", {})
    elif name == "compile":
        trainer = trainer_in(torch.channels_last, preset)
        step, compiled = trainer.train_step, {}
        for nets in ("stage_nets", "discriminator_nets"):  # both sides of the step
            setattr(step, nets, Networks(*(_compiled(net, compiled) for net in getattr(step, nets))))
        provider = Provider(name, trainer.iterate, "reference", rivals)
    else:
        trainer = trainer_in(None, preset, graphed=name == "native as a graph")
        provider = Provider(name, trainer.iterate, "auto", rivals)
    config = config_of(preset)
    benchmark.extra_info.update(
        case=f"stage-1 step of preset {preset}, {[config.batch, 3, config.crop, config.crop]}",
        flops=operations(preset),
        dtype="bfloat16" if GPU else "float32",
    )
    race(benchmark, provider, lambda iterate: iterate(), rounds=30, warm_up=5, whole=True)


def _compiled(net: torch.nn.Module, known: dict[torch.nn.Module, torch.nn.Module]) -> torch.nn.Module:
    if net not in known:
        known[net] = torch.compile(net, dynamic=False)
    return known[net]


def config_of(preset: str, graphed: bool = False) -> Config:
    """The preset, in batches that plain PyTorch can train on the GPU that is there."""
    changes = {}
    if GPU and preset == "paper" and torch.cuda.mem_get_info()[1] < 40 * 2**30:
        changes["batch"] = 4
    warm = {"discriminator_warmup": 0}
    return Config(preset=preset, precision="auto", cuda_graph=graphed, optim=warm, **changes)


def trainer_in(layout: torch.memory_format | None, preset: str = "small-gan", graphed: bool = False) -> Trainer:
    """A preset, its weights in a memory layout, on images of noise, so that it needs no data."""
    config = config_of(preset, graphed)
    generator, side = np.random.default_rng(0), 2 * config.crop
    arrays = [generator.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(IMAGES)]
    images = FolderSet.from_arrays([str(i) for i in range(IMAGES)], arrays)
    scorer = make_scorer(lambda scored: scored.mean(dim=(1, 2, 3)), images, images)
    trainer = Trainer(config, Domains(images, images), scorer, torch.device(DEVICE))
    for net in trainer.nets if layout else ():
        net.to(memory_format=layout)
    return trainer


@functools.cache
def operations(preset: str) -> int:
    """Floating-point operations of the convolutions and matrix products of a step, counted as it runs."""
    trainer = trainer_in(None, preset)
    with use_backend("reference"), FlopCounterMode(display=False) as counter:
        trainer.iterate()
    return counter.get_total_flops()
