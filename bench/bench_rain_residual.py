"""rain_residual: the three scenes of a step, native against plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from op_cases import DEVICE, measure, providers

from rgsud_fast.ops.rain_residual import rain_residual, reference


def by_scene(op):
    """Scenes given one image after another, as `measure` wants them."""
    return lambda *images: op(*(images[i : i + 3] for i in range(0, len(images), 3)))


@pytest.mark.parametrize("side", [64, 128, 256])
@pytest.mark.parametrize(
    "provider", providers("rain_residual", by_scene(rain_residual), {"plain": by_scene(reference)})
)
def bench_rain_residual(benchmark, provider, side):
    images = [torch.rand(4, 3, side, side, device=DEVICE, requires_grad=True) for _ in range(9)]
    measure(benchmark, provider, images, moved=30 * images[0].nbytes)
