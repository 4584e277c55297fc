"""pixel_shuffle_skip: the derainer's way up at its four levels, Triton against plain PyTorch."""

from __future__ import annotations

import pytest
from op_cases import last, measure, providers, random

from rgsud_fast.ops.pixel_shuffle_skip import pixel_shuffle_skip, reference


@pytest.mark.parametrize("channels, side", [(512, 32), (256, 64), (128, 128), (64, 256)])
@pytest.mark.parametrize("provider", providers("pixel_shuffle_skip", pixel_shuffle_skip, {"plain": reference}))
def bench_pixel_shuffle_skip(benchmark, provider, channels, side):
    x = last(random(4, 2 * channels, side // 2, side // 2).detach()).requires_grad_()
    skip = last(random(4, channels // 2, side, side).detach()).requires_grad_()
    measure(benchmark, provider, [x, skip], moved=5 * x.nbytes)
