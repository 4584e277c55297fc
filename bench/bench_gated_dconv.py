"""gated_dconv: native or Triton against plain PyTorch, in both memory layouts."""

from __future__ import annotations

import pytest
from op_cases import last, measure, providers, random

from rgsud_fast.ops.gated_dconv import gated_dconv, reference

# Layers of the derainers in `small` and `unirain-small`: the gate, the side of the window, and the features.
CASES = [
    ("product", 3, (8, 24, 64, 64)),
    ("product", 5, (8, 24, 64, 64)),
    ("product", 7, (8, 24, 64, 64)),
    ("product", 7, (8, 48, 32, 32)),
    ("gelu", 3, (4, 62, 64, 64)),
    ("gelu", 3, (4, 126, 32, 32)),
    ("none", 3, (4, 36, 64, 64)),
    ("none", 3, (4, 72, 32, 32)),
    ("none", 5, (4, 62, 64, 64)),
]
PROVIDERS = providers(
    "gated_dconv",
    gated_dconv,
    {"plain": reference, "plain channels last": lambda x, *rest: reference(last(x), *rest)},
)


@pytest.mark.parametrize("gate, taps, shape", CASES, ids=str)
@pytest.mark.parametrize("provider", PROVIDERS)
def bench_gated_dconv(benchmark, provider, gate, taps, shape):
    x, weight, bias = random(*shape), random(shape[1], 1, taps, taps), random(shape[1])
    moved = (5 if gate == "none" else 4) * x.nbytes
    measure(benchmark, provider, [x, weight, bias, gate], moved=moved, work=6 * taps**2 * x.numel())
