"""take_crops: the rainy and reward crops of a step, native against indexed PyTorch."""

from __future__ import annotations

import pytest
import torch
from op_cases import DEVICE, providers, race

from rgsud_fast.data import draw, offsets_of, windows_of
from rgsud_fast.ops.take_crops import reference, take_crops

SIZES = [(321, 481), (481, 321)] * 8


@pytest.mark.parametrize("batch, side", [(4, 64), (8, 256)])
@pytest.mark.parametrize("provider", providers("take_crops", take_crops, {"plain": reference}))
def bench_take_crops(benchmark, provider, batch, side):
    offsets = offsets_of(SIZES)
    pixels = torch.randint(0, 256, (offsets[-1],), dtype=torch.uint8, device=DEVICE)
    windows = windows_of(draw(0, 0, batch, SIZES, side, "rainy"), SIZES, offsets).to(DEVICE)
    shares = torch.ones(batch, 1, device=DEVICE)

    benchmark.extra_info.update(
        case=f"take_crops {[batch, 3, side, side]} with rewards",
        bytes=batch * 3 * side * side * 2 * (1 + 4),
        flops=0,
        dtype="uint8",
    )
    race(benchmark, provider, lambda cut: cut(pixels, windows, side, pixels[None], shares), rounds=50, warm_up=10)
