"""A run that is killed again and again, wherever it is, goes on every time and ends in the bits of an unbroken one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file
from tiny import PASTED, same_bits

from rgsud_fast.config import merge
from rgsud_fast.data import write_image
from rgsud_fast.iqa import NiqeScorer, fit_niqe_model, save_scorer
from rgsud_fast.runs.checkpoint import load_checkpoint
from rgsud_fast.runs.folder import RunFolder

KILLS = 22

# When a run is killed, in the order in which a chain of starts goes through them: the file whose n-th appearance or
# growth is waited for, n up to the given number. None: any time.
MOMENTS = (
    ("cache/.*.rgb", 1),  # while images are decoded for the first time
    ("cache/*.json", 1),
    (None, 0),
    ("metrics.jsonl", 4),  # in iterations and sweeps, and while a line is written
    (".checkpoint-*", 2),
    ("metrics.jsonl", 6),
    (".checkpoint-*", 4),
    ("metrics.jsonl", 8),
    (".*.safetensors", 1),  # at the end
    (".metrics-*", 1),
    (".gallery-*", 1),
)


@pytest.fixture(params=PASTED)
def arguments(config, tmp_path, request):
    """A run of which every start takes seconds, scored by a model that is fitted beforehand."""
    rng = np.random.default_rng(0)
    for i in range(3):
        write_image(tmp_path / "rainy" / f"{i}.png", rng.integers(0, 256, (200, 200, 3), dtype=np.uint8))
    photographs = [rng.integers(0, 256, (200, 200, 3), dtype=np.uint8) for _ in range(16)]
    save_scorer(NiqeScorer(fit_niqe_model(photographs)), tmp_path / "niqe.safetensors")
    change = {
        "threads": 1,
        "stage1_iterations": 16,
        "stage2_iterations": 14,
        "log_every": 1,
        "save_every": 2,
        "reward": {"scorer": f"niqe:{tmp_path / 'niqe.safetensors'}", "fidelity": 1.0},
    }
    change = merge(change, PASTED[request.param])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(merge(config, change)))
    return ["--config", str(tmp_path / "config.yaml")]


def start(folder: RunFolder, arguments: list[str]) -> subprocess.Popen:
    """Begin, or go on where there is a checkpoint."""
    known = ["--resume"] if folder.checkpoint.exists() else arguments
    command = [sys.executable, "-m", "rgsud_fast", "train", *known, "--out", str(folder.path)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen) -> None:
    _, error = process.communicate()
    assert process.returncode == 0, error


def kill(process: subprocess.Popen, folder: Path, pattern: str | None, times: int, rng: np.random.Generator) -> bool:
    """Kill a run at its moment; False where it ended before that."""
    seen, before = 0, _state(folder, pattern)
    until = time.monotonic() + rng.uniform(1, 6)
    times = int(rng.integers(1, times + 1)) if pattern else 0
    while process.poll() is None and (seen < times if pattern else time.monotonic() < until):
        now = _state(folder, pattern)
        seen += bool(now - before)
        before = now
        time.sleep(0.0005)
    time.sleep(rng.uniform(0, 0.005))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def _state(folder: Path, pattern: str | None) -> set[tuple[str, int]]:
    """The files of that pattern; a log with its size, since it grows."""
    found = folder.glob(pattern) if pattern else ()
    return {(path.name, os.path.getsize(path) if path.name == "metrics.jsonl" else 0) for path in found}


def log_of(folder: RunFolder) -> list[dict]:
    rows = map(json.loads, folder.log.read_text().splitlines())
    return [{key: value for key, value in row.items() if key != "images_per_second"} for row in rows]


@pytest.mark.slow
def test_a_run_killed_at_random_points_ends_in_the_bits_of_an_unbroken_one(arguments, tmp_path):
    whole = RunFolder(tmp_path / "whole")
    finished(start(whole, arguments))
    assert json.loads(whole.metrics.read_text())["rewards"] == 3
    wanted = load_checkpoint(whole.checkpoint)

    rng, kills, chains, leftovers = np.random.default_rng(0), 0, 0, set()
    while kills < KILLS:
        chains += 1
        folder = RunFolder(tmp_path / f"killed-{chains}")
        for moment in MOMENTS:
            process = start(folder, arguments)
            if not kill(process, folder.path, *moment, rng):
                assert process.returncode == 0
                break
            kills += 1
            leftovers |= {path.name.split("-")[0] for path in folder.path.glob("**/.*")}
        finished(start(folder, arguments))

        state = load_checkpoint(folder.checkpoint)
        for part in wanted:
            assert same_bits(state[part], wanted[part]), part
        for path in whole.path.glob("*.safetensors"):
            assert same_bits(load_file(folder.path / path.name), load_file(path)), path.name
        assert folder.metrics.read_text() == whole.metrics.read_text()
        assert log_of(folder) == log_of(whole)
        assert not list(folder.path.glob("**/.*"))
    assert ".checkpoint" in leftovers, "no kill hit a save"
    print(f"{kills} kills in {chains} chains; torn: {sorted(leftovers)}")
