"""A full disk ends a run with one line that names the file and the mend, and what was saved before stays whole.

The disk is a small one in memory that the test mounts, so these tests need root and skip where mounting is forbidden.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from rgsud_fast import cli
from rgsud_fast.config import merge
from rgsud_fast.data import FolderSet, write_image
from rgsud_fast.errors import UserError
from rgsud_fast.rewards.pool_memory import lay_out
from rgsud_fast.runs.checkpoint import load_checkpoint
from rgsud_fast.runs.folder import RunFolder
from rgsud_fast.system.files import write_text

SIZE = 4 * 2**20  # bytes


@pytest.fixture
def disk(tmp_path):
    """A disk of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "rgsud-test", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"a disk cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk, but: int = 0) -> None:
    """Take all of the disk but so many bytes, in pages of 4 KiB."""
    filler = disk / "filler"
    with open(filler, "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
        os.ftruncate(file.fileno(), file.tell() - but)


def told(capsys, *args) -> str:
    """The one line that a command ends with."""
    assert cli.main([str(arg) for arg in args]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert "No space left on device" in error
    return error


@pytest.fixture
def run(config, tmp_path, disk):
    """Arguments that train the tiny run, with its folder on the small disk and its images elsewhere."""
    data = {**config["data"], "cache_dir": str(tmp_path / "cache")}
    niqe = tmp_path / "niqe.safetensors"
    _save_niqe(niqe)
    change = {"data": data, "reward": {"scorer": f"niqe:{niqe}"}, "save_every": 2, "out": str(disk / "run")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(merge(config, change)))
    return ["train", "--config", tmp_path / "config.yaml"]


def _save_niqe(path) -> None:
    """A natural-image model, so that no scorer has to be fitted."""
    from rgsud_fast.iqa import NiqeScorer, fit_niqe_model, save_scorer

    rng = np.random.default_rng(0)
    photographs = [rng.integers(0, 256, (200, 200, 3), dtype=np.uint8) for _ in range(16)]
    save_scorer(NiqeScorer(fit_niqe_model(photographs)), path)


def test_a_full_disk_during_a_save_keeps_the_checkpoint_and_the_run_goes_on_later(run, disk, tmp_path, capsys):
    assert cli.main([*map(str, run), "--out", str(tmp_path / "whole")]) == 0
    assert cli.main([*map(str, run), "--stage2-iterations", "0"]) == 0
    folder = RunFolder(disk / "run")
    before = folder.checkpoint.read_bytes()
    fill(disk, but=32 * 1024)  # enough for the log and the events, too little for a checkpoint
    capsys.readouterr()
    cache = ["--data.cache-dir", str(tmp_path / "cache")]  # outside the run: so it must be said again
    rest = ["train", "--resume", "--out", str(folder.path), "--stage2-iterations", "4", *cache]
    error = told(capsys, *rest)
    assert f"{folder.checkpoint}: No space left on device; free some, then continue with --resume --out" in error
    assert folder.checkpoint.read_bytes() == before
    assert not list(folder.path.glob(".*"))

    (disk / "filler").unlink()
    assert cli.main(rest) == 0
    whole = RunFolder(tmp_path / "whole")
    states = [load_checkpoint(run.checkpoint)["networks"] for run in (whole, folder)]
    for kind, network in states[0].items():
        assert all(torch.equal(tensor, states[1][kind][name]) for name, tensor in network.items()), kind
        mine, theirs = load_file(whole.weights(kind)), load_file(folder.weights(kind))
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert json.loads(whole.metrics.read_text()) == json.loads(folder.metrics.read_text())


def test_a_full_disk_at_the_end_of_a_run_names_the_file_and_loses_nothing(run, disk, tmp_path, capsys):
    """Each file that the end of a run writes in turn is the one that finds no room."""
    assert cli.main(list(map(str, run))) == 0
    folder = RunFolder(disk / "run")
    gallery = folder.gallery.read_bytes()
    capsys.readouterr()
    named = []
    for room in (0, 4, 24, 48, 96, 192, 384, 768):
        (disk / "filler").unlink(missing_ok=True)
        fill(disk, but=room * 1024)
        if cli.main(["train", "--resume", "--out", str(folder.path), "--data.cache-dir", str(tmp_path / "cache")]) == 0:
            break
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert "No space left on device; free some, then continue with --resume" in error
        named.append(error.split(":")[1].strip().rpartition("/")[2])
        assert load_checkpoint(folder.checkpoint)["step"] == 10
        assert folder.gallery.read_bytes() == gallery
    assert {"metrics.jsonl", "derainer.safetensors", "gallery.html"} & set(named), named
    assert len(set(named)) >= 3, named


def test_a_full_disk_while_the_log_and_the_events_are_written_is_named(disk, tmp_path):
    from rgsud_fast.runs.tensorboard import Events

    folder = RunFolder(disk)
    events = Events(folder.events, 0)
    fill(disk)
    with pytest.raises(OSError, match="No space left") as caught:
        for step in range(1000):
            events.add_scalar("train/loss", 1.0, step)
    assert caught.value.filename == str(events.path)
    events.close()
    (disk / "filler").unlink()
    folder.append_log({"step": 1})
    fill(disk)
    with pytest.raises(OSError, match="No space left") as caught:
        for step in range(2, 2000):
            folder.append_log({"step": step})
    assert caught.value.filename == str(folder.log)
    (disk / "filler").unlink()
    folder.cut_log(5)  # the torn line is gone
    assert folder.read_log() == [{"step": step} for step in range(1, 6)]


def test_a_full_disk_while_the_cache_is_built_is_told_with_the_mend(disk, tmp_path):
    for i in range(3):
        write_image(tmp_path / "photos" / f"{i}.png", np.zeros((800, 800, 3), np.uint8))
    with pytest.raises(UserError, match=r"cache cannot be written \(No space left on device\); free some.*cache_dir"):
        FolderSet.from_folder(tmp_path / "photos", disk / "cache")
    assert not list((disk / "cache").iterdir())


def test_a_reward_pool_that_the_disk_does_not_hold_is_an_error_and_no_crash_later(disk):
    with pytest.raises(OSError, match="No space left") as caught:
        lay_out([0, 2 * SIZE], 1, torch.device("cpu"), 0, 0, disk / "pool.bytes")
    assert caught.value.filename == str(disk / "pool.bytes")


def test_replaced_text_keeps_its_old_content(disk):
    write_text(disk / "text", "old")
    fill(disk)
    with pytest.raises(OSError, match="No space left") as caught:
        write_text(disk / "text", "new" * 1000)
    assert caught.value.filename == str(disk / "text")
    assert (disk / "text").read_text() == "old"
