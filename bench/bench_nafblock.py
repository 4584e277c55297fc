"""nafblock: native against plain PyTorch, in both memory layouts."""

from __future__ import annotations

import pytest
from op_cases import DEVICE, last, measure, providers, random

from rgsud_fast.networks.derainers.nafnet import NAFBlock
from rgsud_fast.ops import NafWeights
from rgsud_fast.ops.nafblock import nafblock, reference

PROVIDERS = providers(
    "nafblock",
    lambda x, *weights: nafblock(x, NafWeights(*weights)),
    {
        "plain": lambda x, *weights: reference(x, NafWeights(*weights)),
        "plain channels last": lambda x, *weights: reference(last(x), NafWeights(*weights)),
    },
)


@pytest.mark.parametrize("shape", [(8, 12, 64, 64), (8, 24, 32, 32), (8, 48, 16, 16), (4, 32, 128, 128)], ids=str)
@pytest.mark.parametrize("provider", PROVIDERS)
def bench_nafblock(benchmark, provider, shape):
    x = random(*shape)
    weights = NAFBlock(shape[1]).to(DEVICE).weights()
    # Two passes over x and the gate's input each way, at least.
    measure(benchmark, provider, [x, *weights], moved=13 * x.nbytes)
