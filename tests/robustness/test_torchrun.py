"""`torchrun -m rgsud_fast train`: two processes to the end, a lost one, and the rest of its run by one process."""

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
import torch
import torch.distributed as dist
import yaml
from PIL import Image
from tiny import TINY_RUN

from rgsud_fast.runs.checkpoint import load_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not dist.is_available() or sys.platform != "linux", reason="needs torch.distributed, and Linux to find a rank"
    ),
]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture
def run(tmp_path):
    """Write the configuration of a run over photographs large enough for NIQE; returns its file and folder."""
    generator = np.random.default_rng(0)
    for name, count in (("rainy", 3), ("clean", 3), ("val_rainy", 1), ("val_clean", 1)):
        (tmp_path / name).mkdir()
        for i in range(count):
            size = 400 if name == "clean" else 200  # NIQE is fitted to more than 36 blocks of 96 x 96
            pixels = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    data = {name: str(tmp_path / name) for name in ("rainy", "clean", "val_rainy", "val_clean")}
    reward = TINY_RUN["reward"] | {"scorer": "niqe"}
    optim = TINY_RUN["optim"] | {"discriminator_warmup": 2}
    fields = TINY_RUN | {
        "data": data,
        "reward": reward,
        "optim": optim,
        "out": str(tmp_path / "run"),
        "threads": 1,
        "save_every": 2,
    }

    def write(**changed) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(fields | changed))
        return path

    return write, tmp_path / "run"


def start(command: list, log: Path) -> subprocess.Popen:
    with log.open("w") as out:
        return subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )


def finished(command: list, log: Path) -> str:
    process = start(command, log)
    assert process.wait(300) == 0, log.read_text()
    return log.read_text()


def ranks_of(process: subprocess.Popen) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children]


def test_two_processes_train_log_once_and_save_once(run, tmp_path):
    write, folder = run
    told = finished([*TORCHRUN, "-m", "rgsud_fast", "train", "--config", str(write())], tmp_path / "log")
    assert told.count("everything is in") == 1
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if row["event"] == "train"]
    assert steps == sorted(set(steps)) and steps[-1] == 10
    state = load_checkpoint(folder / "checkpoint.pt")
    assert state["step"] == 10 and bool(torch.isfinite(state["pool"]["scores"]).any(dim=1).all())
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["rewards"] == 3 and "psnr_rgb" in metrics
    assert {"derainer.safetensors", "gallery.html", "config.yaml"} <= {path.name for path in folder.iterdir()}


def test_a_lost_process_ends_the_run_and_one_process_finishes_it(run, tmp_path):
    write, folder = run
    config = write(stage2_iterations=100_000)
    process = start([*TORCHRUN, "-m", "rgsud_fast", "train", "--config", str(config)], tmp_path / "log")
    try:
        until = time.monotonic() + 240
        while not (folder / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.2)
        lost = ranks_of(process)[1]
        os.kill(lost, signal.SIGKILL)
        assert process.wait(120) != 0
    finally:
        process.kill()
    told = (tmp_path / "log").read_text()
    assert "another process of this run was lost" in told
    assert "Traceback" not in told.split("another process")[0]
    step = load_checkpoint(folder / "checkpoint.pt")["step"]
    assert step % 2 == 0
    rest = ["train", "--out", str(folder), "--resume", "--stage2-iterations", str(step)]
    finished([sys.executable, "-m", "rgsud_fast", *rest], tmp_path / "rest")
    assert json.loads((folder / "metrics.json").read_text())["steps"] == 6 + step


def test_what_processes_cannot_share_is_told(run, tmp_path):
    write, _ = run
    log = tmp_path / "log"
    process = start([*TORCHRUN, "-m", "rgsud_fast", "train", "--config", str(write(batch=3))], log)
    assert process.wait(240) != 0
    assert "terminate called" not in log.read_text()
    assert "batch 3 cannot be divided over 2 processes: give a multiple of 2" in log.read_text()
