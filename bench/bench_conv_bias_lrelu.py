"""conv_bias_lrelu and residual_block: native against PyTorch's convolution and LeakyReLU, in both memory layouts."""

from __future__ import annotations

import pytest
import torch
from op_cases import DEVICE, last, measure, providers

from rgsud_fast.ops.conv_bias_lrelu import conv_bias_lrelu
from rgsud_fast.ops.conv_bias_lrelu import reference as plain_conv
from rgsud_fast.ops.residual_block import reference as plain_block
from rgsud_fast.ops.residual_block import residual_block

SLOPE = 0.2
CONV = providers(
    "conv_bias_lrelu",
    lambda x, weight, bias: conv_bias_lrelu(x, weight, bias, SLOPE),
    {
        "plain": lambda x, weight, bias: plain_conv(x, weight, bias, SLOPE),
        "plain channels last": lambda x, weight, bias: plain_conv(last(x), last(weight), bias, SLOPE),
    },
)
BLOCK = providers(
    "conv_bias_lrelu",
    residual_block,
    {
        "plain": plain_block,
        "plain channels last": lambda x, w1, b1, w2, b2: plain_block(last(x), last(w1), b1, last(w2), b2),
    },
)
# The generator's first and last convolution and the U-Net's, as preset small has them, and at the paper's width.
SHAPES = [((12, 6, 64, 64), 16, 7), ((12, 16, 64, 64), 3, 7), ((4, 8, 64, 64), 8, 3), ((2, 64, 128, 128), 64, 3)]


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, device=DEVICE, requires_grad=True)


@pytest.mark.parametrize("shape, channels, taps", SHAPES, ids=str)
@pytest.mark.parametrize("name, function, backend", CONV)
def bench_conv_bias_lrelu(benchmark, name, function, backend, shape, channels, taps):
    inputs = [random(*shape), random(channels, shape[1], taps, taps), random(channels)]
    moved = 4 * (3 * shape[1] + 4 * channels) * shape[0] * shape[2] * shape[3]
    measure(
        benchmark, (name, function, backend), inputs, moved, work=6 * inputs[1].numel() * shape[0] * shape[2] * shape[3]
    )


@pytest.mark.parametrize("shape", [(12, 16, 64, 64), (4, 16, 64, 64), (2, 64, 128, 128)], ids=str)
@pytest.mark.parametrize("name, function, backend", BLOCK)
def bench_residual_block(benchmark, name, function, backend, shape):
    c = shape[1]
    inputs = [random(*shape), random(c, c, 3, 3), random(c), random(c, c, 3, 3), random(c)]
    work = 6 * 2 * inputs[1].numel() * shape[0] * shape[2] * shape[3]
    measure(benchmark, (name, function, backend), inputs, 9 * inputs[0].nbytes, work=work)
