"""Which folder a run takes, and its log."""

from __future__ import annotations

import pytest

from rgsud_fast.config import Config
from rgsud_fast.errors import UserError
from rgsud_fast.runs.folder import RunFolder, open_run


def test_runs_without_a_name_are_numbered(tmp_path):
    config = Config(preset="demo")
    assert [open_run(config, False, tmp_path).path.name for _ in range(3)] == ["demo-0", "demo-1", "demo-2"]
    assert open_run(Config(preset="small"), False, tmp_path).path.name == "small-0"


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").touch()
    config = Config(out=tmp_path / "run")
    with pytest.raises(UserError, match=r"run already holds a run; add --resume"):
        open_run(config, resume=False)
    assert open_run(config, resume=True).path == tmp_path / "run"


def test_resume_without_a_name_takes_the_newest_run(tmp_path):
    for number in (0, 1, 10):
        (tmp_path / f"demo-{number}").mkdir()
        (tmp_path / f"demo-{number}" / "checkpoint.pt").touch()
    assert open_run(Config(preset="demo"), True, tmp_path).path.name == "demo-10"


def test_nothing_to_resume_is_said(tmp_path):
    with pytest.raises(UserError, match="nothing to resume"):
        open_run(Config(out=tmp_path / "none"), resume=True)


def test_a_run_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot make the run folder"):
        open_run(Config(out=tmp_path / "file" / "run"), resume=False)


def test_the_log_is_cut_to_the_step_a_run_resumes_from(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.read_log() == []
    for step in (1, 2, 3):
        folder.append_log({"step": step})
    folder.cut_log(2)
    assert folder.read_log() == [{"step": 1}, {"step": 2}]


def test_a_torn_last_line_of_the_log_is_left_out(tmp_path):
    folder = RunFolder(tmp_path)
    folder.append_log({"step": 1})
    with folder.log.open("a") as log:
        log.write('{"step": 2, "lo')
    assert folder.read_log() == [{"step": 1}]


def test_a_sweep_that_a_resumed_run_does_again_is_logged_once(tmp_path):
    folder = RunFolder(tmp_path)
    for row in ({"step": 2, "event": "sweep"}, {"step": 4, "event": "train"}, {"step": 4, "event": "sweep"}):
        folder.append_log(row)
    folder.cut_log(4)
    assert folder.read_log() == [{"step": 2, "event": "sweep"}, {"step": 4, "event": "train"}]
