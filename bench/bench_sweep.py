"""The cost of a sweep beyond its forward passes: preset small-gan (on a GPU paper), eight images of 480 x 320."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bench_niqe import photographs
from op_cases import DEVICE, Provider, race

from rgsud_fast.config import load_config
from rgsud_fast.data import FolderSet, to_batch
from rgsud_fast.data.rain import RainStyle, render_rain
from rgsud_fast.iqa import make_scorer
from rgsud_fast.methods.build import build_networks
from rgsud_fast.networks import evaluating
from rgsud_fast.networks.tiles import run_tiled
from rgsud_fast.ops import use_backend
from rgsud_fast.rewards.pool import RewardPool
from rgsud_fast.rewards.sweep import sweep


@pytest.mark.parametrize("mirror", [False, True], ids=["plain", "mirrored"])
@pytest.mark.parametrize("name", ["domain", "niqe"])
def bench_sweep(benchmark, name, mirror):
    preset = "paper" if DEVICE == "cuda" else "small-gan"
    config = load_config({"preset": preset, "reward": {"mirror": mirror}})
    clean = photographs()[:, :, :320]
    wet = [np.ascontiguousarray(render_rain(image, RainStyle(), seed)) for seed, image in enumerate(clean)]
    rainy = FolderSet.from_arrays([str(i) for i in range(len(wet))], wet)
    device = torch.device(DEVICE)
    derainer = build_networks(config, device).derainer
    scorer = make_scorer(name, rainy, clean, device=device)
    pool = RewardPool(rainy.sizes, device=device)
    batches = [to_batch(image, device) for image in wet]

    def whole() -> None:
        pool.scores.fill_(-torch.inf)  # every candidate enters
        sweep(derainer, rainy, range(len(wet)), scorer, pool, device, config.reward)

    def forward() -> None:
        with evaluating(derainer), use_backend("auto"):  # a rival would run on the references
            for image in batches:
                for _ in range(1 + mirror):
                    run_tiled(derainer, image)

    provider = Provider(f"sweep, {name}", whole, "auto", {"forward passes alone": forward})
    moved = sum(image.nbytes for image in batches)
    benchmark.extra_info.update(case=f"sweep, {'mirrored' if mirror else 'plain'}", bytes=moved, dtype="float32")
    race(benchmark, provider, lambda function: function(), rounds=10, warm_up=2, whole=True)
