"""conv_bias_lrelu: native against PyTorch's convolution and LeakyReLU, in both memory layouts."""

from __future__ import annotations

import pytest
from op_cases import last, measure, providers, random

from rgsud_fast.ops.conv_bias_lrelu import conv_bias_lrelu
from rgsud_fast.ops.conv_bias_lrelu import reference as plain_conv

SLOPE = 0.2
CONV = providers(
    "conv_bias_lrelu",
    lambda x, weight, bias: conv_bias_lrelu(x, weight, bias, SLOPE),
    {
        "plain": lambda x, weight, bias: plain_conv(x, weight, bias, SLOPE),
        "plain channels last": lambda x, weight, bias: plain_conv(last(x), last(weight), bias, SLOPE),
    },
)
# The generator's first and last convolution and the U-Net's, as preset small-gan has them, and at the paper's width.
SHAPES = [((12, 6, 64, 64), 16, 7), ((12, 16, 64, 64), 3, 7), ((4, 8, 64, 64), 8, 3), ((2, 64, 128, 128), 64, 3)]


@pytest.mark.parametrize("shape, channels, taps", SHAPES, ids=str)
@pytest.mark.parametrize("provider", CONV)
def bench_conv_bias_lrelu(benchmark, provider, shape, channels, taps):
    inputs = [random(*shape), random(channels, shape[1], taps, taps), random(channels)]
    pixels = shape[0] * shape[2] * shape[3]
    moved, work = 4 * (3 * shape[1] + 4 * channels) * pixels, 6 * inputs[1].numel() * pixels
    measure(benchmark, provider, inputs, moved, work)
