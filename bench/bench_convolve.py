"""convolve, also transposed, in a training step of half precision: against PyTorch's, which rounds at every layer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from op_cases import DEVICE, PRECISION, Provider, last, race
from torch import Tensor, nn

from rgsud_fast.ops import convolve
from rgsud_fast.ops._step_weights import StepWeights

LAYERS = 4  # of the same weights, as the generator and the discriminator meet them several times in a step
DTYPE = torch.bfloat16 if PRECISION == "bfloat16" else torch.float32
STEP = StepWeights(DEVICE == "cuda")


def plain(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, transposed: bool) -> Tensor:
    """PyTorch's own."""
    return (F.conv_transpose2d if transposed else F.conv2d)(x, weight, bias, stride, padding)


PROVIDERS = [
    pytest.param(Provider("plain", plain, "reference", {}), id="plain"),
    pytest.param(Provider("convolve", convolve, "auto", {"plain": plain}), id="convolve"),
]
# The discriminator's two first, and the derainer's down and up, at the widths of the paper.
SHAPES = [
    ((8, 3, 256, 256), (64, 3, 4, 4), 2, 1, False),
    ((8, 64, 128, 128), (128, 64, 4, 4), 2, 1, False),
    ((8, 32, 128, 128), (64, 32, 2, 2), 2, 0, False),
    ((8, 64, 64, 64), (64, 32, 2, 2), 2, 0, True),
]


@pytest.mark.parametrize("shape, window, stride, padding, transposed", SHAPES, ids=str)
@pytest.mark.parametrize("provider", PROVIDERS)
def bench_convolve(benchmark, provider, shape, window, stride, padding, transposed):
    if DEVICE == "cpu":
        shape = (2, *shape[1:])
    x = last(torch.randn(shape, device=DEVICE)).to(DTYPE).requires_grad_()
    weight = nn.Parameter(last(torch.randn(window, device=DEVICE)))
    bias = nn.Parameter(torch.randn(window[1 if transposed else 0], device=DEVICE))

    def step(function) -> None:
        x.grad = weight.grad = bias.grad = None
        with STEP, torch.autocast(DEVICE, DTYPE, enabled=PRECISION == "bfloat16"):
            for _ in range(LAYERS):
                out = function(x, weight, bias, stride, padding, transposed)
                out.backward(torch.ones_like(out))
            STEP.gather()

    with torch.no_grad():
        out = plain(x.float(), weight, bias, stride, padding, transposed)
    pixels = x.numel() // shape[1] if transposed else out.numel() // window[0]
    benchmark.extra_info.update(
        case=f"bench_convolve {list(shape)} by {list(window)} {PRECISION} forward + backward, {LAYERS} layers",
        bytes=LAYERS * DTYPE.itemsize * 3 * (x.numel() + out.numel()),
        flops=LAYERS * 6 * weight.numel() * pixels,
        dtype=PRECISION,
    )
    race(benchmark, provider, step, rounds=20, warm_up=4)
