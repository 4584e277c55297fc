"""Parts of the fuzz tests: the same cases on every run, damaged files, and what ends a case that goes wrong."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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


NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = st.builds(
    lambda number, form: struct.pack(form, number & (256 ** struct.calcsize(form) - 1)),
    st.sampled_from(NUMBERS) | st.integers(0, 2**32 - 1),
    st.sampled_from(("B", "<H", ">H", "<I", ">I")),
)


@st.composite
def damaged(draw: st.DrawFn, whole: dict[str, bytes]) -> tuple[str, bytes]:
    """One of the files with a few places overwritten, cut out, repeated or cut off."""
    name = draw(st.sampled_from(list(whole)))
    data = bytearray(whole[name])
    for _ in range(draw(st.integers(0, 5))):
        # Most of what can be wrong lies in the header.
        at = draw(st.integers(0, max(min(len(data), 200) - 1, 0)) | st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(("write", "write", "write", "cut", "repeat", "end", "insert")))
        length = draw(st.integers(1, 40))
        if kind == "write":
            word = draw(WORDS)
            data[at : at + len(word)] = word
        elif kind == "cut":
            del data[at : at + length]
        elif kind == "repeat":
            data[at:at] = data[at : at + length]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=8))
        else:
            del data[at:]
    return name, bytes(data)


def refuses(read: Any, path: Path, what: str) -> Any:
    """What is read, or None where it is refused in one line that names the file."""
    try:
        return read(path)
    except UserError as error:
        assert "\n" not in str(error)
        assert what in str(error)
        return None
