"""gated_dconv: native or Triton against plain PyTorch, in both memory layouts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

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


def cases() -> Iterator:
    """Every case by every provider."""
    for gate, taps, shape in CASES:
        plain = {
            "plain": partial(reference, gate=gate),
            "plain channels last": lambda x, *rest, gate=gate: reference(last(x), *rest, gate=gate),
        }
        for one in providers("gated_dconv", partial(gated_dconv, gate=gate), plain):
            yield pytest.param(*one.values, gate, taps, shape, id=f"{one.id}-{gate}-{taps}-{shape}")


@pytest.mark.parametrize("provider, gate, taps, shape", cases())
def bench_gated_dconv(benchmark, provider, gate, taps, shape):
    x, weight, bias = random(*shape), random(shape[1], 1, taps, taps), random(shape[1])
    moved = (5 if gate == "none" else 4) * x.nbytes
    measure(benchmark, provider, [x, weight, bias], moved, 6 * taps**2 * x.numel(), f"{gate} {taps}x{taps} ")
