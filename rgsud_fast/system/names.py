"""Names of files: those that are no UTF-8, which Python holds as lone surrogates, and those that begin at home."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TextIO, TypeVar

Given = ParamSpec("Given")
Made = TypeVar("Made")


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


def with_home(value: Any) -> Any:
    """A path, or the paths of a list, whose leading ~ is the user's home; anything else as it is."""
    if isinstance(value, str):
        return os.path.expanduser(value) if value.startswith("~") else value
    if isinstance(value, Path):
        return Path(os.path.expanduser(value)) if str(value).startswith("~") else value
    return type(value)(map(with_home, value)) if type(value) in (list, tuple) else value


def takes_home(function: Callable[Given, Made]) -> Callable[Given, Made]:
    """Let a function that is given paths understand ~ in any of them."""

    @functools.wraps(function)
    def expand(*args: Given.args, **options: Given.kwargs) -> Made:
        return function(*map(with_home, args), **{name: with_home(value) for name, value in options.items()})

    return expand
