"""ssim: native against plain PyTorch, gradient at the first image."""

from __future__ import annotations

import pytest
import torch
from op_cases import DEVICE, measure, providers

from rgsud_fast.ops.ssim import reference, ssim


@pytest.mark.parametrize("side", [64, 128, 256])
@pytest.mark.parametrize("provider", providers("ssim", ssim, {"plain conv": reference}))
def bench_ssim(benchmark, provider, side):
    x = torch.rand(4, 3, side, side, device=DEVICE, requires_grad=True)
    y = torch.rand(4, 3, side, side, device=DEVICE)
    measure(benchmark, provider, [x, y], moved=4 * x.nbytes)
