"""reward_candidate and removed_layer: native against plain PyTorch, one image, as a sweep takes them."""

from __future__ import annotations

import pytest
import torch
from op_cases import DEVICE, providers, race

from rgsud_fast.ops.reward_candidate import describe, reference, removed_layer, reward_candidate


def images() -> list[torch.Tensor]:
    """A rainy image, a derained one and a mirrored one."""
    rainy = torch.rand(1, 3, 480, 320, device=DEVICE)
    return [rainy, *(rainy + 0.1 * torch.randn_like(rainy) for _ in range(2))]


@pytest.mark.parametrize("provider", providers("reward_candidate", reward_candidate, {"plain": reference}))
def bench_reward_candidate(benchmark, provider):
    rainy, derained, mirrored = images()
    case = f"reward_candidate {list(rainy.shape)} mirrored, grey"
    benchmark.extra_info.update(case=case, bytes=4 * rainy.nbytes, dtype="float32")
    race(benchmark, provider, lambda make: make(rainy, derained, mirrored, True), rounds=50, warm_up=5)


@pytest.mark.parametrize("provider", providers("reward_candidate", removed_layer, {"plain": describe}))
def bench_removed_layer(benchmark, provider):
    rainy, derained, _ = images()
    case = f"removed_layer {list(rainy.shape)}"
    benchmark.extra_info.update(case=case, bytes=2 * rainy.nbytes, dtype="float32")
    race(benchmark, provider, lambda describe: describe(rainy, derained), rounds=50, warm_up=5)
