"""A toolbox whose training is killed again and again, in every phase, ends in the bits of an unbroken one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from boxes import TINY_BOX, write_scenes
from safetensors.torch import load_file
from tiny import same_bits

KILLS = 10
SAVES = 3  # checkpoints between two kills: all five phases save some thirty


def start(*args):
    return subprocess.Popen(
        [sys.executable, "-m", "rgsud_fast", "toolbox", "train", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def result_of(box):
    files = {str(path.relative_to(box)): load_file(path) for path in sorted(box.rglob("*.safetensors"))}
    return files | {"metrics": json.loads((box / "metrics.json").read_text())}


@pytest.mark.slow
def test_ten_kills_in_all_phases(tmp_path):
    scenes, config = write_scenes(tmp_path / "clean"), tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY_BOX))
    whole, box, killed, args = tmp_path / "whole", tmp_path / "box", 0, ()
    assert start(scenes, "--out", whole, "--config", config).wait(300) == 0
    while True:
        started = args or (scenes, "--out", box, "--config", config)
        process, seen, saves, deadline = start(*started), None, 0, time.monotonic() + 300
        while process.poll() is None and saves < SAVES + (seen is None):
            assert time.monotonic() < deadline
            try:
                now = (box / "checkpoint.pt").stat().st_ino
            except OSError:
                now = None
            saves, seen = saves + (now is not None and now != seen), now or seen
            time.sleep(0.002)
        if process.poll() is not None:
            assert process.returncode == 0, process.communicate()[0].decode()
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        killed += 1
        if (box / "checkpoint.pt").is_file():
            args = ("--resume", "--out", box)
    assert killed >= KILLS
    assert same_bits(result_of(box), result_of(whole))
    assert not list(box.rglob(".*-????????.*"))  # nothing that a killed writer left
