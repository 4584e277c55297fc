"""high_pass: native against plain PyTorch, as two depthwise convolutions and as two matrix products."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from op_cases import DEVICE, measure, providers
from torch import Tensor

from rgsud_fast.ops._gaussian import gaussian
from rgsud_fast.ops.high_pass import SIGMA, TAPS, high_pass, reference, with_high_pass


@functools.cache
def blur_matrix(size: int) -> Tensor:
    """The blur along one axis as a dense matrix, reflection included, [size, size]."""
    padded = F.pad(torch.eye(size)[None, None], [0, 0, TAPS // 2, TAPS // 2], mode="reflect")
    return F.conv2d(padded, gaussian(TAPS, SIGMA, padded)[None, None, :, None])[0, 0].to(DEVICE)


def plain_matmul(image: Tensor) -> Tensor:
    """The same op by two matrix products: the fastest plain PyTorch for small images."""
    return image - blur_matrix(image.shape[2]) @ image @ blur_matrix(image.shape[3]).T


def beside(blur):
    """The detail joined to the image in plain PyTorch."""
    return lambda image: torch.cat([image, blur(image)], 1)


PLAIN = {"plain conv": reference, "plain matmul": plain_matmul}
PROVIDERS = providers("high_pass", high_pass, PLAIN)
BESIDE = providers("high_pass", with_high_pass, {name: beside(blur) for name, blur in PLAIN.items()})


@pytest.mark.parametrize("side", [64, 128, 256])
@pytest.mark.parametrize("provider", PROVIDERS)
def bench_high_pass(benchmark, provider, side):
    image = torch.rand(4, 3, side, side, device=DEVICE, requires_grad=True)
    measure(benchmark, provider, [image], moved=4 * image.nbytes)


@pytest.mark.parametrize("side", [64, 128, 256])
@pytest.mark.parametrize("provider", BESIDE)
def bench_with_high_pass(benchmark, provider, side):
    image = torch.rand(4, 3, side, side, device=DEVICE, requires_grad=True)
    measure(benchmark, provider, [image], moved=6 * image.nbytes)
