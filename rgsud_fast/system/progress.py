"""The progress of a run for its user: one live bar on a terminal, plain lines in a log."""

from __future__ import annotations

import contextlib
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


class Progress:
    """The progress of one run. A context manager; prints nothing outside of it.

    Args:
        total: iterations of the whole run.
        quiet: print nothing at all.
        stream: where to print; standard output by default.
        every: least seconds between two lines where the stream is no terminal.
    """

    def __init__(self, total: int, quiet: bool = False, stream: TextIO | None = None, every: float = 5.0) -> None:
        self.total, self.quiet, self.every = total, quiet, every
        self._console = Console(file=print_anything(stream), highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._first: tuple[float, int] | None = None  # (seconds, step) of the first advance: a resumed run starts late
        self._last_line = float("-inf")

    def __enter__(self) -> Progress:
        if not self.quiet and self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            with contextlib.suppress(OSError, ValueError):
                self._live.__exit__(None, None, None)
            self._live = None

    def advance(self, step: int, stage: int | str, fields: Mapping[str, float | str]) -> None:
        """Show where the run is.

        Args:
            step: iterations done.
            stage: of the method, 1 or 2; or the name of what comes before.
            fields: what to show by name, in order, such as losses, images/s and the pool's state; numbers are
                rounded to four digits.
        """
        if self.quiet:
            return
        now = time.monotonic()
        staged = isinstance(stage, int)  # what comes before the first stage says nothing of its speed
        if self._first is None and staged:
            self._first = (now, step)
        eta = self._eta(step, now)
        shown = [(name, _text(value)) for name, value in fields.items()]
        if self._live is not None:
            self._live.update(self._bar(step, stage, shown, eta))
        elif step >= self.total or now - self._last_line >= self.every:
            self._last_line = now
            parts = [f"step {step:,}/{self.total:,}", f"stage {stage}", *(f"{k} {v}" for k, v in shown)]
            self._print("  ".join([*parts, f"ETA {eta}"]))

    def reading(self, done: int, total: int) -> None:
        """Show how far the images of a run, or their shards, are read before it."""
        self.advance(0, "images", {"read": f"{done:,}/{total:,}"})

    def say(self, text: str) -> None:
        """Print one line, above the bar where there is one."""
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

    def _bar(self, step: int, stage: int | str, shown: list[tuple[str, str]], eta: str) -> Table:
        fields = Text("  ").join(Text.assemble((f"{name} ", "dim"), value) for name, value in shown)
        cells = (
            Text(f"stage {stage}", style="bold"),
            Text(f"{step:,}/{self.total:,}"),
            Text.assemble(("ETA ", "dim"), eta),
        )
        bar = Table.grid(padding=(0, 1))
        for cell in cells:
            bar.add_column(no_wrap=True, min_width=cell.cell_len)
        bar.add_column(min_width=16)
        bar.add_column(no_wrap=True, overflow="ellipsis")  # a narrow terminal shortens the fields, nothing else
        bar.add_row(*cells, ProgressBar(total=max(self.total, 1), completed=step, width=16), fields)
        return bar


@contextlib.contextmanager
def counting(what: str, every: float = 5.0) -> Iterator[_Lines | _Bars]:
    """Show how far a list of images is, and how far the tiles of one that takes long.

    Yields a function of (images done, in all, name of the last) with another, `part`, of (tiles done, in all, name of
    their image). Two bars on a terminal; else a line at the end and at most one every `every` seconds.
    """
    console = Console(file=print_anything(), highlight=False, soft_wrap=True)
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
