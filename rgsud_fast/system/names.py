"""File names that are no UTF-8, which Python holds as lone surrogates: hashed, shown and opened all the same."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


def name_bytes(name: str) -> bytes:
    """The bytes of a name, for a hash; of a name in UTF-8 they are its own."""
    return name.encode("utf-8", "surrogatepass")


def printable(text: str) -> str:
    """The text with what is no UTF-8 written as \\udcXX."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def print_anything(stream: TextIO | None = None) -> TextIO:
    """Let a stream, by default standard output, escape what its encoding cannot hold, as standard error always does.

    Returns:
        The stream.
    """
    stream = sys.stdout if stream is None else stream
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:  # a stream of Python's own, and none that a notebook put in its place
        reconfigure(errors="backslashreplace")
    return stream


@contextlib.contextmanager
def utf8_name(path: Path) -> Iterator[str]:
    """A name of a file to read, for libraries that take names in UTF-8 alone; where it is not, one of Linux's own.

    Raises:
        OSError: a file that is not in UTF-8 by its name, and cannot be opened.
    """
    if printable(str(path)) == str(path):
        yield str(path)
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)
