"""Patches that the host makes while networks learn from those before."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

from torch import Tensor

Pairs: TypeAlias = tuple[Tensor, Tensor]  # damaged and clean patches, [N, 3, S, S] each, on the host


class Prefetch:
    """Batches by their number, made on a thread of its own, which has the next one ready.

    With two threads of PyTorch's on two cores, beside other jobs, a step of a tool of `toolbox-small` takes 57 ms in
    place of 71; with one, both cores being busy, 64 and 63.

    Args:
        make: patches of these numbers, on which alone they depend, so that what was made ahead and is not asked for
            does no harm. What it holds must not hold this object, whose thread ends with it.
        size: patches of a batch.
    """

    def __init__(self, make: Callable[[range], Pairs], size: int) -> None:
        self._make, self._size, self._executor = make, size, ThreadPoolExecutor(1, "patches")
        self._number, self._made = -1, Future[Pairs]()

    def __call__(self, number: int) -> Pairs:
        """The batch of that number."""
        if number != self._number:
            self._begin(number)
        made = self._made
        self._begin(number + 1)
        return made.result()

    def _begin(self, number: int) -> None:
        numbers = range(number * self._size, (number + 1) * self._size)
        self._number, self._made = number, self._executor.submit(self._make, numbers)
