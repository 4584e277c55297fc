"""The folder of one run: where its files are and its logs; and which folder is next, or newest."""

from __future__ import annotations

import contextlib
import errno
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..config import Config, load_config
from ..errors import UserError
from ..system.files import naming, remove_leftovers, write_text
from .lock import FolderLock

RUNS = Path("runs")  # where folders go that have no name of the user's: runs/PRESET-N
FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk, or what the user may take of it


class RunFolder:
    """Names and writes the files of a run.

    Args:
        path: the folder; made on first use.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.checkpoint = self.path / "checkpoint.pt"
        self.log = self.path / "metrics.jsonl"
        self.metrics = self.path / "metrics.json"
        self.gallery = self.path / "gallery.html"
        self.events = self.path / "events"
        self.cache = self.path / "cache"
        self._lock: FolderLock | None = None

    def own(self) -> None:
        """Make this process the only one that writes here, until `release` or its end.

        Raises:
            UserError: a run that goes on has the folder.
        """
        self._lock = FolderLock(self.path)

    @property
    def locked(self) -> bool:
        """Whether others are kept away; not on file systems without locks."""
        return self._lock is not None and self._lock.works

    def release(self) -> None:
        """Let others have the folder."""
        if self._lock is not None:
            self._lock.release()

    @contextlib.contextmanager
    def releasing(self) -> Iterator[None]:
        """Let others have the folder when what is done meanwhile ends or fails."""
        try:
            yield
        finally:
            self.release()

    @contextlib.contextmanager
    def remove_if_empty(self) -> Iterator[None]:
        """Remove the folder again if what is done meanwhile fails and leaves nothing in it."""
        try:
            yield
        except BaseException:
            for path in (self.cache, self.path):
                with contextlib.suppress(OSError):
                    path.rmdir()
            raise

    @contextlib.contextmanager
    def explain_full_disks(self) -> Iterator[None]:
        """Tell in one line where the disk is full and what to do."""
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                raise
            then = f"continue with --resume --out {self.path}" if self.checkpoint.exists() else "start again"
            raise UserError(f"{error.filename or self.path}: {error.strerror}; free some, then {then}") from error

    def tidy(self) -> None:
        """Remove the temporary files of a run that was killed while it wrote."""
        own = (self.checkpoint, self.config, self.log, self.metrics, self.gallery)
        for path in (*own, self.path / "README.md", self.path / "*.safetensors"):
            remove_leftovers(path)

    def refuse_ways_out(self) -> None:
        """Demand that whatever is written into stays inside, also in a folder that came from somebody else.

        A link in place of a file that is replaced is replaced itself; these are appended to, or written through.

        Raises:
            UserError: a link leads out of the folder; the message names it.
        """
        root = self.path.resolve()
        for path in (self.log, self.events, self.cache, *self.cache.glob("pool*.bytes")):
            if not path.resolve().is_relative_to(root):
                raise UserError(f"{path} is a link that leads out of the run folder, to {path.resolve()}: remove it")

    def read_config(self, default: Config) -> Config:
        """The configuration that the folder holds, or the default where it holds none."""
        return load_config(self.config) if self.config.exists() else default

    def weights(self, kind: str) -> Path:
        """Where the weights of one network are, by its name in `config.parts`."""
        return self.path / f"{kind}.safetensors"

    def append_log(self, row: dict[str, Any]) -> None:
        """Add one line to metrics.jsonl."""
        with naming(self.log), self.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")

    def read_log(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl so far; one that a hard stop tore, or that is no line of a log, is left out."""
        rows = []
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.is_file() else ""
        for line in text.splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                row = json.loads(line)
                if isinstance(row, dict) and type(row.get("step")) is int:
                    rows.append(row)
        return rows

    def cut_log(self, step: int) -> None:
        """Drop the lines that a run resumed at `step` writes again: the later ones, and of a sweep before that step."""
        before = ("first", "sweep", "drift", "stop")  # what a step's number tells of the time before its iteration
        rows = [row for row in self.read_log() if row["step"] < step + (row.get("event") not in before)]
        write_text(self.log, "".join(json.dumps(row) + "\n" for row in rows))

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write the final metrics.json."""
        write_text(self.metrics, json.dumps(metrics, indent=2) + "\n")


def open_run(config: Config, resume: bool, root: str | Path = RUNS) -> RunFolder:
    """Choose the run folder of a configuration.

    Args:
        config: `config.out` names the folder; where it is None, a new runs/PRESET-N is taken, or, to resume, the last.
        resume: continue the run in that folder.
        root: where folders without a name go.

    Raises:
        UserError: a new run in a folder that holds one, or photographs; nothing to resume; or a folder of a run that
            goes on.
    """
    root = Path(root)
    if resume:
        folder = RunFolder(config.out or newest_run(root, config.preset) or root / config.preset)
        if not folder.path.is_dir():
            raise UserError(f"nothing to resume: {folder.path} does not exist; name the run's folder with --out")
    else:
        folder = RunFolder(_make(Path(config.out)) if config.out is not None else _make_next(root, config.preset))
    folder.own()
    try:
        if resume and not folder.checkpoint.exists():
            raise UserError(f"nothing to resume: {folder.path} holds no checkpoint yet; start it without --resume")
        if not resume:
            _refuse_other_contents(folder)
        folder.refuse_ways_out()
        folder.tidy()
    except BaseException:
        folder.release()
        raise
    return folder


def _refuse_other_contents(folder: RunFolder) -> None:
    """Demand that a new run's folder holds nothing that it would mix with."""
    from ..data.image_files import READABLE  # loads torch, which the command line's help does without

    if folder.checkpoint.exists() or folder.metrics.exists():
        raise UserError(
            f"{folder.path} already holds a run; add --resume (in Python: resume=True) to continue it, or give another "
            "--out"
        )
    if any(path.suffix.lower() in READABLE for path in folder.path.iterdir()):
        raise UserError(f"{folder.path} holds images: give a folder for the run alone as --out")


def _make(path: Path, exist_ok: bool = True) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
        if not exist_ok and path.is_dir():
            raise
        raise UserError(f"cannot make the run folder {path}: {error.strerror}") from None
    return path


def _make_next(root: Path, preset: str) -> Path:
    """Make the folder of a new run; where another process makes the same one meanwhile, the next."""
    while True:
        with contextlib.suppress(FileExistsError):
            return _make(next_run(root, preset), exist_ok=False)


def next_run(root: Path, preset: str) -> Path:
    """The folder of a new run: PRESET-N, N above every number that preset has there."""
    return root / f"{preset}-{max((number for number, _ in _runs(root, preset)), default=-1) + 1}"


def newest_run(root: Path, preset: str | None = None) -> Path | None:
    """The run that --resume means where no folder is named; only folders that hold a checkpoint.pt count.

    Args:
        root: where the folders are.
        preset: whose runs PRESET-N; None takes every folder, however it is called.

    Returns:
        The run of the highest number; without a preset the one whose checkpoint was written last. None without any.
    """
    if preset is None:
        runs = [(path.stat().st_mtime_ns, path.parent) for path in root.glob("*/checkpoint.pt")]
    else:
        runs = [(number, path) for number, path in _runs(root, preset) if (path / "checkpoint.pt").is_file()]
    return max(runs)[1] if runs else None


def newest_finished_run(root: Path) -> Path | None:
    """The run whose metrics.json, the mark of a finished one, was written last and that has weights; None without."""
    runs = [(path.stat().st_mtime_ns, path.parent) for path in root.glob("*/metrics.json")]
    return max((run for run in runs if (run[1] / "derainer.safetensors").is_file()), default=(0, None))[1]


def run_to_use(root: Path = RUNS) -> Path:
    """The run whose weights a command takes that is given none: the newest finished one.

    Raises:
        UserError: there is none; the message says how to come to one.
    """
    if (run := newest_finished_run(root)) is not None:
        return run
    if (begun := newest_run(root)) is not None:
        raise UserError(
            f"no finished run under {root}/: rgsud-fast train --resume --out {begun} finishes {begun},"
            " which you may also name as it is"
        )
    raise UserError(
        f"no finished run under {root}/: name a run folder or a weights file, or train one first;"
        " rgsud-fast train without arguments takes embedded images"
    )


def _runs(root: Path, preset: str) -> list[tuple[int, Path]]:
    pattern = re.compile(rf"{re.escape(preset)}-(\d+)")
    found = [(pattern.fullmatch(path.name), path) for path in root.glob("*")]
    return [(int(match.group(1)), path) for match, path in found if match]
