"""pool_update: native against indexed PyTorch, every candidate a winner."""

from __future__ import annotations

import pytest
import torch
from op_cases import DEVICE, providers, race

from rgsud_fast.ops.pool_update import EMPTY, pool_update, reference

COUNT, HEIGHT, WIDTH = 16, 320, 480


@pytest.mark.parametrize("provider", providers("pool_update", pool_update, {"plain": reference}))
def bench_pool_update(benchmark, provider):
    pixels = 3 * HEIGHT * WIDTH
    arena = torch.zeros(1, COUNT * pixels, dtype=torch.uint8, device=DEVICE)
    scores = torch.full((COUNT, 1), EMPTY, device=DEVICE)
    images = torch.rand(COUNT, 3, HEIGHT, WIDTH, device=DEVICE)
    values = torch.arange(COUNT, dtype=torch.float32, device=DEVICE)
    places = torch.tensor([[i, i * pixels] for i in range(COUNT)], device=DEVICE)

    def update(function) -> None:
        scores.fill_(EMPTY)
        function(arena, scores, images, values, places)

    benchmark.extra_info.update(
        case=f"pool_update {list(images.shape)}", bytes=images.nbytes + arena.nbytes, dtype="float32"
    )
    race(benchmark, provider, update, rounds=20, warm_up=3)
