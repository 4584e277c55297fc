"""Two trainings started at the same time: never one folder, never a mixed log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rgsud_fast.runs.folder import RunFolder

START = "import sys, rgsud_fast; rgsud_fast.train(sys.argv[1], scorer=lambda x: -x.mean((1, 2, 3)), quiet=True)"
ROUNDS = 20
pytestmark = pytest.mark.slow


def two_at_once(config, where: Path) -> list[tuple[int, str]]:
    """Start two runs in `where`; the exit status and last line of errors of each."""
    where.mkdir()
    (where / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-c", START, "config.yaml"]
    started = [subprocess.Popen(command, cwd=where, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    return [(process.returncode, errors) for process in started for errors in [process.communicate()[1]]]


def steps(folder: Path) -> list[int]:
    """The steps of a log's lines, to see that one run alone wrote them."""
    return [row["step"] for row in RunFolder(folder).read_log() if row["event"] == "train"]


def test_two_runs_in_one_folder_are_one_run_and_a_refusal(config, tmp_path):
    for n in range(ROUNDS):
        ended = two_at_once(config | {"out": "run"}, tmp_path / f"at-{n}")
        assert sorted(status for status, _ in ended) == [0, 1]
        refusal = next(errors for status, errors in ended if status)
        assert "a run that goes on (process " in refusal or "already holds a run" in refusal
        assert steps(tmp_path / f"at-{n}" / "run") == [2, 4, 6, 8, 10]


def test_two_runs_without_a_name_take_two_folders(config, tmp_path):
    config.pop("out")
    for n in range(ROUNDS):
        ended = two_at_once(config, tmp_path / f"at-{n}")
        assert [status for status, _ in ended] == [0, 0]
        folders = sorted((tmp_path / f"at-{n}" / "runs").iterdir())
        assert [folder.name for folder in folders] == ["small-gan-0", "small-gan-1"]
        assert [steps(folder) for folder in folders] == [[2, 4, 6, 8, 10]] * 2
