"""A step of preset `paper`, traced: with this package's kernels, and as eager PyTorch does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from rgsud_fast.config import Config
from rgsud_fast.methods.build import build_networks
from rgsud_fast.ops import use_backend
from rgsud_fast.training.step import TrainStep

from .fake_gpu import DEVICE, fake_gpu, to_fake_gpu
from .kernels import Specialisation, recorded_kernels
from .recorder import Record, Recorder


@dataclass
class Trace:
    """What a step does."""

    record: Record
    kernels: dict[Specialisation, int]  # compilations of Triton kernels, and their launches


def trace_step(stage: int, backend: str = "auto", **fields: Any) -> Trace:
    """Trace one step of preset `paper` in bfloat16, of both optimisers, as it would run without a CUDA graph.

    Args:
        stage: 1 or 2; in 2 every image has a reward.
        backend: of the ops; `reference` is eager PyTorch.
        fields: of the configuration, over the preset's.
    """
    config = Config(**{"preset": "paper", "precision": "bfloat16", "cuda_graph": False, **fields})
    nets = build_networks(config, torch.device("meta"))
    recorder, kernels = Recorder(), {}
    with fake_gpu(), use_backend(backend):
        for net in nets:
            to_fake_gpu(net)
        with recorder, recorded_kernels(recorder, kernels):
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
