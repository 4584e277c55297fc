"""How far work is: who does it tells, whoever shows it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, TypeVar

T = TypeVar("T")
Watch: TypeAlias = Callable[[int, int], None]  # (done, in all)


def nobody(done: int, total: int) -> None:
    """A `Watch` that shows nothing."""


def watched(items: Sequence[T], watch: Watch) -> Iterator[T]:
    """Go through items and tell after each how many are done."""
    for done, item in enumerate(items, 1):
        yield item
        watch(done, len(items))
