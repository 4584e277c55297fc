"""PRESET-N: which run folder is next, and which is the newest."""

from __future__ import annotations

import os

import pytest

from rgsud_fast.runs.folder import newest_run, next_run


@pytest.fixture
def make(tmp_path):
    """Make a run folder, with a checkpoint of that age where one is given."""

    def call(name: str, written: int | None = None) -> None:
        (tmp_path / name).mkdir()
        if written is not None:
            (tmp_path / name / "checkpoint.pt").touch()
            os.utime(tmp_path / name / "checkpoint.pt", (written, written))

    return call


def test_the_next_number_is_above_all_of_that_preset(tmp_path, make):
    assert next_run(tmp_path / "none", "demo") == tmp_path / "none" / "demo-0"
    for name in ("demo-0", "demo-10", "small-20", "demo-x", "my-demo-30"):
        make(name)
    assert next_run(tmp_path, "demo") == tmp_path / "demo-11"
    assert next_run(tmp_path, "paper") == tmp_path / "paper-0"


def test_the_newest_of_a_preset_has_the_highest_number_and_a_checkpoint(tmp_path, make):
    make("demo-2", written=300)
    make("demo-10", written=100)
    make("demo-11")
    make("small-20", written=200)
    make("demo-test-30", written=400)
    assert newest_run(tmp_path, "demo") == tmp_path / "demo-10"


def test_the_newest_of_all_presets_was_written_last(tmp_path, make):
    make("demo-10", written=100)
    make("small-0", written=200)
    make("paper-3")
    assert newest_run(tmp_path) == tmp_path / "small-0"
    make("mine", written=300)
    assert newest_run(tmp_path) == tmp_path / "mine"


def test_without_a_checkpoint_there_is_no_newest(tmp_path, make):
    make("demo-0")
    assert newest_run(tmp_path) is None
    assert newest_run(tmp_path, "demo") is None
    assert newest_run(tmp_path / "none") is None
