"""`kill -9` while an index or a distillation is made, and two processes of torchrun: the end is the same."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time

import pytest
import torch.distributed as dist
from scenes import pair, scene, write_all, write_pairs

pytestmark = pytest.mark.slow
INDEX = "import rgsud_fast; rgsud_fast.index('real', {out!r}, clean='scenes', iterations=4, device='cpu')"
DISTIL = "import rgsud_fast; rgsud_fast.distil('index', 'set_streak', {out!r}, trusted='trusted_streak', device='cpu')"
KILLS = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("kills")
    write_all(root / "real", [pair(1000 + i, 60, 64)[0] for i in range(40)])
    write_all(root / "scenes", [scene(i, 100, 110) for i in range(2)])
    write_pairs(root / "trusted_streak", [pair(i) for i in range(40)])
    write_pairs(root / "set_streak", [pair(i) for i in range(200, 230)])
    return root


def start(folder, code, out, *before):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *before, "-c", code.format(out=out)]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process):
    _, error = process.communicate(timeout=600)
    assert process.returncode == 0, error.decode()


def rows(path):
    with sqlite3.connect(path) as database:
        return database.execute("SELECT * FROM rows ORDER BY number").fetchall()


def content(folder, out, files):
    return [
        rows(folder / out / name) if name.endswith("sqlite") else (folder / out / name).read_bytes() for name in files
    ]


@pytest.mark.parametrize(
    "code, name, files",
    [
        (INDEX, "index", ["index.sqlite", "captions.npy", "visual.npy", "thumbs.npy", "types.safetensors"]),
        (DISTIL, "distilled", ["manifest.sqlite", "kept.jsonl"]),
    ],
    ids=["index", "distil"],
)
def test_kills_at_random_points_end_in_the_same(folder, code, name, files):
    began = time.monotonic()
    finish(start(folder, code, name))
    whole, draw = time.monotonic() - began, random.Random(0)
    for kill in range(KILLS):
        process = start(folder, code, f"{name}-killed")
        time.sleep(draw.uniform(0.3, 1.0) * whole if kill % 2 else draw.uniform(0.05, 0.6) * whole)
        process.kill()
        process.communicate()
    finish(start(folder, code, f"{name}-killed"))
    assert content(folder, f"{name}-killed", files) == content(folder, name, files)
    assert not list((folder / f"{name}-killed").glob("*.part"))


@pytest.mark.skipif(not dist.is_available(), reason="needs torch.distributed")
def test_two_processes_write_what_one_does(folder, tmp_path):
    if not (folder / "index").is_dir():
        finish(start(folder, INDEX, "index"))
    if not (folder / "distilled").is_dir():
        finish(start(folder, DISTIL, "distilled"))
    for code, name, files in (
        (INDEX, "index", ["index.sqlite", "captions.npy", "thumbs.npy"]),
        (DISTIL, "distilled", ["manifest.sqlite", "kept.jsonl"]),
    ):
        script = tmp_path / f"{name}.py"
        script.write_text(code.format(out=f"{name}-two"))
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
        run = subprocess.run(torchrun, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)
        assert run.returncode == 0, run.stderr.decode()
        assert content(folder, f"{name}-two", files) == content(folder, name, files)
