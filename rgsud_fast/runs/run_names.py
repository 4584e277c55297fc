"""How run folders without a name of the user's are called, PRESET-N, and which of them is next or newest."""

from __future__ import annotations

import re
from pathlib import Path

RUNS = Path("runs")  # where they go


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


def _runs(root: Path, preset: str) -> list[tuple[int, Path]]:
    pattern = re.compile(rf"{re.escape(preset)}-(\d+)")
    found = [(pattern.fullmatch(path.name), path) for path in root.glob("*")]
    return [(int(match.group(1)), path) for match, path in found if match]
