"""What the fuzz tests share: the number of cases, the same ones on every run, and what ends a case that goes wrong."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from rgsud_fast.errors import UserError

REFUSED = (UserError, ValueError, TypeError)  # what a bad input may raise; anything else is a finding
HANGS = 60.0  # seconds of one case, after which the process ends with its stack
ROOM = 3 * 2**30  # bytes that a case may take beside what the process has; beyond it, memory errors
SCALE = float(os.environ.get("RGSUD_FUZZ", "1"))  # longer runs draw other cases each time; --hypothesis-seed names them


def try_cases(check: Callable[[Any], None], cases: int, strategy: SearchStrategy[Any]) -> None:
    """Call `check` with so many drawn cases; one that fails is made smaller and shown.

    Args:
        check: takes what the strategy draws, and raises what is a finding.
        cases: how many at least, times RGSUD_FUZZ.
        strategy: what to draw.
    """
    tried = 0

    @settings(
        max_examples=round(cases * SCALE),
        derandomize=SCALE == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(drawn: Any) -> None:
        nonlocal tried
        tried += 1
        faulthandler.dump_traceback_later(HANGS, exit=True)
        try:
            check(drawn)
        finally:
            faulthandler.cancel_dump_traceback_later()

    with _bounded_memory():
        run()
    assert tried >= round(cases * SCALE), f"{tried} cases tried"


@contextlib.contextmanager
def _bounded_memory() -> Iterator[None]:
    """Let an allocation fail that a small input must not cause, rather than the machine."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as sizes:
        now = int(sizes.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
