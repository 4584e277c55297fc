"""derain_loss: native against plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from op_cases import DEVICE, measure, providers

from rgsud_fast.ops.derain_loss import derain_loss, reference


def added(loss):
    """Both terms as one number, as training adds them."""
    return lambda derained, clean: sum(loss(derained, clean))


@pytest.mark.parametrize("side", [64, 128, 256])
@pytest.mark.parametrize("provider", providers("derain_loss", added(derain_loss), {"plain": added(reference)}))
def bench_derain_loss(benchmark, provider, side):
    derained = torch.rand(4, 3, side, side, device=DEVICE, requires_grad=True)
    clean = torch.rand(4, 3, side, side, device=DEVICE)
    measure(benchmark, provider, [derained, clean], moved=6 * derained.nbytes)
