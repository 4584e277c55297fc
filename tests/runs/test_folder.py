"""Which folder a run takes, and its log."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from rgsud_fast.config import Config
from rgsud_fast.errors import UserError
from rgsud_fast.runs.folder import RunFolder, open_run
from rgsud_fast.system.files import replacing


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


@pytest.mark.parametrize("name", ["checkpoint.pt", "metrics.json", "gallery.html", "README.md", "derainer.safetensors"])
def test_what_a_killed_writer_left_is_tidied(tmp_path, name):
    with replacing(tmp_path / name) as temporary:
        left = temporary.name
    (tmp_path / left).touch()
    RunFolder(tmp_path).tidy()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_has_one_living_owner(tmp_path):
    config = Config(out=tmp_path / "run")
    first = open_run(config, resume=False)
    with pytest.raises(UserError, match=rf"belongs to a run that goes on \(process {os.getpid()} on .*--out"):
        open_run(config, resume=False)
    first.checkpoint.touch()
    with pytest.raises(UserError, match="belongs to a run that goes on"):
        open_run(config, resume=True)
    first.release()
    first.release()
    assert not list(first.path.glob(".*"))
    second = open_run(config, resume=True)
    assert second.locked
    second.release()


def test_what_a_killed_owner_left_binds_nobody(tmp_path):
    (tmp_path / ".owner").write_text("process 1 on elsewhere\n")
    folder = open_run(Config(out=tmp_path), resume=False)
    assert (tmp_path / ".owner").read_text().startswith(f"process {os.getpid()} ")
    folder.release()


def test_without_locks_a_run_goes_on_and_knows(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    folders = [open_run(Config(out=tmp_path), resume=False) for _ in range(2)]
    assert not any(folder.locked for folder in folders)


def test_a_lock_that_leads_elsewhere_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".owner").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="cannot be written"):
        open_run(Config(out=tmp_path / "run"), resume=False)
    assert (tmp_path / "precious").read_text() == "mine"


def test_two_that_start_at_once_take_two_folders(tmp_path, monkeypatch):
    taken, nexts = tmp_path / "demo-0", iter([tmp_path / "demo-0", tmp_path / "demo-1"])
    taken.mkdir()  # by another process, between looking and making
    monkeypatch.setattr("rgsud_fast.runs.folder.next_run", lambda root, preset: next(nexts))
    assert open_run(Config(preset="demo"), False, tmp_path).path == tmp_path / "demo-1"


def test_a_folder_of_photographs_is_no_run_folder(tmp_path):
    (tmp_path / "me.JPG").touch()
    with pytest.raises(UserError, match="holds images: give a folder for the run alone"):
        open_run(Config(out=tmp_path), resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["me.JPG"]


def test_the_lock_of_another_user_is_read_where_it_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / ".owner").write_text("process 1 on elsewhere\n")
    real = os.open

    def refuse(path, flags, *mode):
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    folder = open_run(Config(out=tmp_path), resume=False)
    assert folder.locked
    with pytest.raises(UserError, match=r"belongs to a run that goes on \(process 1 on elsewhere\)"):
        open_run(Config(out=tmp_path), resume=False)
    folder.release()


def test_a_run_without_a_checkpoint_is_not_resumed_but_may_begin_anew(tmp_path):
    config = Config(preset="demo", out=tmp_path / "run")
    open_run(config, resume=False).release()
    with pytest.raises(UserError, match="no checkpoint yet; start it without --resume"):
        open_run(config, resume=True)
    open_run(config, resume=False).release()


def test_a_run_that_goes_on_is_named_where_it_is_to_be_resumed(tmp_path):
    config = Config(preset="demo", out=tmp_path / "run")
    owner = open_run(config, resume=False)
    try:
        with pytest.raises(UserError, match="goes on"):
            open_run(config, resume=True)
    finally:
        owner.release()
