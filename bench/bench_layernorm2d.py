"""layernorm2d: native or Triton against plain PyTorch, by hand and by its layer norm on permuted memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from op_cases import DEVICE, measure, providers
from torch import Tensor

from rgsud_fast.ops.layernorm2d import layernorm2d, reference


def plain_permuted(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """PyTorch's own layer norm, which wants the channels last."""
    return F.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, 1e-6).permute(0, 3, 1, 2).contiguous()


PROVIDERS = providers("layernorm2d", layernorm2d, {"plain by hand": reference, "plain permuted": plain_permuted})


@pytest.mark.parametrize("shape", [(4, 12, 64, 64), (4, 24, 32, 32), (4, 32, 128, 128)], ids=str)
@pytest.mark.parametrize("provider", PROVIDERS)
def bench_layernorm2d(benchmark, provider, shape):
    x = torch.rand(shape, device=DEVICE, requires_grad=True)
    weight, bias = (torch.rand(shape[1], device=DEVICE, requires_grad=True) for _ in range(2))
    measure(benchmark, provider, [x, weight, bias], moved=5 * x.nbytes)
