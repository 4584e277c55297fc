"""The progress of a run for its user: one live bar on a terminal, plain lines in a log."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .names import print_anything
from .watch import Watch

SILENCE = 3  # times the usual seconds between two lines: after so many a log hears of a run without new figures


class _Unread(Console):
    """A console whose reader may go away; Rich would end the program then, without a word."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        raise BrokenPipeError


class Progress:
    """The progress of one run. A context manager; prints nothing outside of it.

    Args:
        total: iterations of the whole run.
        quiet: print nothing at all.
        stream: where to print; standard output by default.
        every: least seconds between two lines where the stream is no terminal; one without new figures comes after
            `SILENCE` times as many.
    """

    def __init__(self, total: int, quiet: bool = False, stream: TextIO | None = None, every: float = 5.0) -> None:
        self.total, self.quiet, self.every = total, quiet, every
        self._console = _Unread(file=print_anything(stream), highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._first: tuple[float, int] | None = None  # (seconds, step) of the first advance: a resumed run starts late
        self._phase = ("", 0.0, 0)  # name, when it began, how much was done before
        self._told = 0.0  # when anything was last told, shown or not
        self._last_line = float("-inf")
        self._last_figures: str | None = None

    def __enter__(self) -> Progress:
        self._told = time.monotonic()
        if not self.quiet and self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            with contextlib.suppress(OSError, ValueError):
                self._live.__exit__(None, None, None)
            self._live = None

    def advance(self, step: int, stage: int, fields: Mapping[str, float | str]) -> None:
        """Show where the run is.

        In a log each line has figures of its own: the same ones are not told again.

        Args:
            step: iterations done.
            stage: of the method, 1 or 2.
            fields: what to show by name, in order, such as losses, images/s and the pool's state; numbers are
                rounded to four digits.
        """
        if self.quiet:
            return
        now = self._told = time.monotonic()
        self._phase = ("", now, 0)
        if self._first is None:
            self._first = (now, step)
        eta = self._eta(step, now)
        shown = [(name, _text(value)) for name, value in fields.items()]
        if self._live is not None:
            figures = Text("  ").join(Text.assemble((f"{name} ", "dim"), value) for name, value in shown)
            self._live.update(_bar(f"stage {stage}", step, self.total, eta, figures))
            return
        told = "  ".join(f"{name} {value}" for name, value in shown)
        new = told != self._last_figures
        if step >= self.total or now - self._last_line >= self.every * (1 if new else SILENCE):
            self._last_line, self._last_figures = now, told
            parts = [f"step {step:,}/{self.total:,}", f"stage {stage}", *([told] if new and told else [])]
            self._print("  ".join([*parts, f"ETA {eta}"]))

    def phase(self, name: str, done: int, total: int) -> None:
        """Show how far something is that is no iteration: reading images, a sweep, a validation.

        Each has a bar and an ETA of its own. A log gets a line every `every` seconds, and none of what ends before.
        """
        if self.quiet:
            return
        now, told = time.monotonic(), self._told
        self._told = now
        if name != self._phase[0] or done <= self._phase[2]:
            self._phase = (name, told, 0)  # its first part took what has passed since
        began = self._phase[1]
        self._phase = (name, began, done)
        left = (total - done) * (now - began) / done if done else math.inf
        eta = clock(left) if done else "?"
        if self._live is not None:
            self._live.update(_bar(name, done, total, eta, Text()))
        elif left >= self.every and done < total and now - max(self._last_line, began) >= self.every:
            self._last_line = now
            self._print(f"{name} {done:,}/{total:,}  ETA {eta}")

    def of(self, name: str) -> Watch:
        """A `Watch` that shows a phase of that name."""
        return functools.partial(self.phase, name)

    def say(self, text: str) -> None:
        """Print one line, above the bar where there is one."""
        self._told = time.monotonic()
        if not self.quiet:
            self._print(text)

    def _print(self, text: str) -> None:
        """Print; a reader that went away, or a terminal that was closed, hears no more and stops nothing."""
        encoding = self._console.encoding  # letters that it lacks are shown as numbers
        try:
            self._console.print(escape(text.encode(encoding, "backslashreplace").decode(encoding)))
        except (OSError, ValueError):  # ValueError: a closed stream
            self.quiet, self._live = True, None

    def _eta(self, step: int, now: float) -> str:
        """Time to go at the mean speed since the first advance."""
        began, first = self._first or (now, step)
        if step >= self.total:
            return "0:00"
        if step <= first:
            return "?"
        return clock((self.total - step) * (now - began) / (step - first))


def _bar(what: str, done: int, total: int, eta: str, figures: Text) -> Table:
    cells = (Text(what, style="bold"), Text(f"{done:,}/{total:,}"), Text.assemble(("ETA ", "dim"), eta))
    bar = Table.grid(padding=(0, 1))
    for cell in cells:
        bar.add_column(no_wrap=True, min_width=cell.cell_len)
    bar.add_column(min_width=16)
    bar.add_column(no_wrap=True, overflow="ellipsis")  # a narrow terminal shortens the figures, nothing else
    bar.add_row(*cells, ProgressBar(total=max(total, 1), completed=done, width=16), figures)
    return bar


@contextlib.contextmanager
def counting(what: str, every: float = 5.0) -> Iterator[_Lines | _Bars]:
    """Show how far a list of images is, and how far the tiles of one that takes long.

    Yields a function of (images done, in all, name of the last) with another, `part`, of (tiles done, in all, name of
    their image). Two bars on a terminal; else a line at the end and at most one every `every` seconds.
    """
    console = _Unread(file=print_anything(), highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield _Lines(what, every)
        return
    from rich.progress import Progress as Bar

    with Bar(console=console, transient=True) as bar:
        yield _Bars(bar, what)


class _Lines:
    def __init__(self, what: str, every: float) -> None:
        self._what, self._every, self._last = what, every, time.monotonic()

    def __call__(self, done: int, total: int, name: str) -> None:
        self._say(f"{self._what} {done}/{total} {name}", done == total)

    def part(self, done: int, total: int, name: str) -> None:
        self._say(f"tile {done}/{total} of {name}", False)

    def _say(self, line: str, always: bool) -> None:
        if always or time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            with contextlib.suppress(OSError, ValueError):  # whoever read this went away: the work goes on
                print(line, flush=True)


class _Bars:
    def __init__(self, bar: Any, what: str) -> None:
        self._bar, self._what = bar, what
        self._images = bar.add_task(what, total=None)
        self._tiles = bar.add_task("tiles", total=None, visible=False)

    def __call__(self, done: int, total: int, name: str) -> None:
        description = f"{self._what} {escape(name)}"
        self._bar.update(self._images, completed=done, total=total, description=description)
        self._bar.update(self._tiles, visible=False)

    def part(self, done: int, total: int, name: str) -> None:
        description = f"tiles of {escape(name)}"
        self._bar.update(self._tiles, completed=done, total=total, description=description, visible=True)


def clock(seconds: float) -> str:
    """Seconds as M:SS or H:MM:SS."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
