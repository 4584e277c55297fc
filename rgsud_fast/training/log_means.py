"""Means of losses over the iterations of a log line, kept on the device until the line is written."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..system.distributed import Ranks


class Means:
    """Adds up named scalars, each over the iterations in which it was finite."""

    def __init__(self) -> None:
        self.count = 0  # iterations since the last reading
        self._names: list[str] = []
        self._sums, self._finite = torch.empty(0), torch.empty(0)

    @torch.no_grad()
    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Note one iteration; until the next reading all have the same names."""
        values = torch.stack([term.float() for term in terms.values()])
        finite = torch.isfinite(values)
        if not self.count:
            self._names = list(terms)
            self._sums, self._finite = torch.zeros_like(values), torch.zeros_like(values)
        self._sums += torch.where(finite, values, 0)
        self._finite += finite
        self.count += 1

    def read(self, ranks: Ranks) -> dict[str, float | None]:
        """The means over ranks by name, None where it never was finite; begins anew. Waits for the device, once."""
        sums, counts = ranks.all_reduce(torch.stack([self._sums, self._finite])).tolist()
        self.count = 0
        return {
            name: total / count if count else None for name, total, count in zip(self._names, sums, counts, strict=True)
        }
