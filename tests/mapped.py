"""A FinPercep-RM whose networks have learned nothing, for tests of what stands on its scores and maps."""

from __future__ import annotations

import torch

from rgsud_fast.iqa import DomainScorer, FinpercepScorer
from rgsud_fast.iqa.domain import RainNet
from rgsud_fast.iqa.finpercep.network import blank


def untrained(stages: int = 3, side: int = 48) -> FinpercepScorer:
    """A scorer of so many stages; the same on every call."""
    generator = torch.Generator().manual_seed(0)
    networks = [blank((4, 6, 8, 10), 6).initialise(generator) for _ in range(stages)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = DomainScorer(RainNet())
    return FinpercepScorer(base, torch.tensor([-1.0, 0.0, 1.0]), networks, side)
