"""residual_block: native against PyTorch's convolutions and LeakyReLU, in both memory layouts."""

from __future__ import annotations

import pytest
from op_cases import last, measure, providers, random

from rgsud_fast.ops.residual_block import reference, residual_block

PROVIDERS = providers(
    "conv_bias_lrelu",  # whose kernels it is made of
    residual_block,
    {
        "plain": reference,
        "plain channels last": lambda x, w1, b1, w2, b2: reference(last(x), last(w1), b1, last(w2), b2),
    },
)


# The generator's, as preset small-gan has them for three images' fakes and for one's, and at the paper's width.
@pytest.mark.parametrize("shape", [(12, 16, 64, 64), (4, 16, 64, 64), (2, 64, 128, 128)], ids=str)
@pytest.mark.parametrize("provider", PROVIDERS)
def bench_residual_block(benchmark, provider, shape):
    images, c, height, width = shape
    inputs = [random(*shape), random(c, c, 3, 3), random(c), random(c, c, 3, 3), random(c)]
    work = 2 * 6 * inputs[1].numel() * images * height * width
    measure(benchmark, provider, inputs, 9 * inputs[0].nbytes, work)
