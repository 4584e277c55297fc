"""instance_norm_lrelu: native or Triton against PyTorch's instance normalisation and LeakyReLU, in both layouts."""

from __future__ import annotations

import pytest
from op_cases import last, measure, providers, random

from rgsud_fast.ops.instance_norm_lrelu import instance_norm_lrelu, reference

PROVIDERS = providers(
    "instance_norm_lrelu",
    instance_norm_lrelu,
    {"plain": reference, "plain channels last": lambda x: reference(last(x))},
)


# The discriminator's three, as preset small-gan has them, and the paper's first.
@pytest.mark.parametrize("shape", [(16, 32, 16, 16), (16, 64, 8, 8), (16, 128, 7, 7), (8, 128, 64, 64)], ids=str)
@pytest.mark.parametrize("provider", PROVIDERS)
def bench_instance_norm_lrelu(benchmark, provider, shape):
    x = random(*shape)
    measure(benchmark, provider, [x], moved=5 * x.nbytes)
