"""A step of preset `paper`, traced: with this package's kernels, and as eager PyTorch does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from rgsud_fast.config import Config
from rgsud_fast.methods.build import build_networks
from rgsud_fast.ops import take_crops, use_backend
from rgsud_fast.optim.adam import make_capturable
from rgsud_fast.optim.moving_average import MovingAverage
from rgsud_fast.training.log_means import Means
from rgsud_fast.training.step import TrainStep

from .fake_gpu import DEVICE, fake_gpu, to_fake_gpu
from .kernels import Specialisation, recorded_kernels
from .recorder import Record, Recorder


@dataclass
class Trace:
    """What a step does."""

    record: Record
    kernels: dict[Specialisation, int]  # compilations of Triton kernels, and their launches


def trace_step(stage: int, backend: str = "auto", architecture: int = 90, **fields: Any) -> Trace:
    """Trace one step of preset `paper` in bfloat16, of both optimisers, as it would run without a CUDA graph.

    Args:
        stage: 1 or 2; in 2 every image has a reward.
        backend: of the ops; `reference` is eager PyTorch.
        architecture: of the GPU that is not there.
        fields: of the configuration, over the preset's.
    """
    config = Config(**{"preset": "paper", "precision": "bfloat16", "cuda_graph": False, **fields})
    nets = build_networks(config, torch.device("meta"))
    recorder, kernels = Recorder(), {}
    with fake_gpu(divmod(architecture, 10)), use_backend(backend):
        for net in nets:
            to_fake_gpu(net)
        with recorder, recorded_kernels(recorder, kernels, architecture):
            step = TrainStep(config, nets, DEVICE)
            names = ["rainy", "clean", "reals", *(["rewards"] if stage == 2 else [])]
            shape = config.batch, 3, config.crop, config.crop
            images = {name: torch.empty(shape, device=DEVICE, memory_format=torch.channels_last) for name in names}
            if stage == 2:
                images["improved"] = torch.empty(config.batch, dtype=torch.bool, device=DEVICE)
            for _ in range(2):  # the first makes Adam's moments, and the second knows which weights are rounded
                step.generator_side(stage, images)
            recorder.record.calls.clear()
            recorder.record.waits.clear()
            kernels.clear()
            step.generator_side(stage, images)
    return Trace(recorder.record, kernels)


def trace_beside(stage: int) -> Trace:
    """Trace what an iteration launches through Python where the step is a graph: all that is not in it.

    That is the learning rates, the crops of both sets from the GPU's memory, the graph's inputs and its one launch, the
    moving average, and the sums of a log line.
    """
    config = Config(preset="paper", precision="bfloat16", cuda_graph=False)
    nets = build_networks(config, torch.device("meta"))
    average = MovingAverage(nets.derainer, config.optim.ema_decay)  # copies a network that is not yet fake
    recorder, kernels = Recorder(), {}
    with fake_gpu():
        for net in (*nets, average):
            to_fake_gpu(net)
        with recorder, recorded_kernels(recorder, kernels):
            step, means = TrainStep(config, nets, DEVICE), Means()
            make_capturable([step.optimizer, step.discriminator_optimizer], True, DEVICE)
            images = [name for name in ("rainy", "clean", "reals", "rewards") if stage == 2 or name != "rewards"]
            shape = config.batch, 3, config.crop, config.crop
            kept = {name: torch.empty(shape, device=DEVICE, memory_format=torch.channels_last) for name in images}
            kept |= {"improved": torch.empty(config.batch, dtype=torch.bool, device=DEVICE)} if stage == 2 else {}
            pixels = torch.empty(1 << 30, dtype=torch.uint8, device=DEVICE)
            terms = {f"term {i}": torch.empty((), device=DEVICE) for i in range(12)}
            for _ in range(2):  # the second is counted: tables of addresses lie on the GPU then
                recorder.record.calls.clear()
                recorder.record.waits.clear()
                step.set_rates(0)
                for _ in kept:
                    windows = torch.empty(config.batch, 6, dtype=torch.int64).to(DEVICE, non_blocking=True)
                    take_crops(pixels, windows, config.crop)
                for value in kept.values():
                    value.copy_(torch.empty_like(value), non_blocking=True)
                recorder.note("graph", "cuda", 1, [])
                average.update_parameters(nets.derainer, skip=step.filter.row > 0)
                means.add(terms)
    return Trace(recorder.record, kernels)
