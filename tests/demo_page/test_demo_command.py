"""`rgsud-fast demo` before its page is up: which run it takes, and mistakes told in one line."""

from __future__ import annotations

import os
import socket
import sys

import pytest
from demo_site import make_run

from rgsud_fast import cli
from rgsud_fast.demo_page.server import SETTINGS
from rgsud_fast.runs.folder import newest_finished_run


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)


def told(capsys, *args: str) -> str:
    """The one line on standard error."""
    assert cli.main(["demo", *args]) == 2
    error = capsys.readouterr().err
    assert error.startswith("rgsud-fast: ")
    assert error.count("\n") == 1
    return error


def test_the_newest_finished_run_is_taken(tmp_path):
    assert newest_finished_run(tmp_path / "runs") is None
    for i, name in enumerate(("demo-1", "small-0", "torn-0")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        for file in ("metrics.json", "derainer.safetensors"):
            (tmp_path / "runs" / name / file).touch()
            os.utime(tmp_path / "runs" / name / file, (i, i))
    (tmp_path / "runs" / "torn-0" / "derainer.safetensors").unlink()
    (tmp_path / "runs" / "unfinished-0").mkdir()
    (tmp_path / "runs" / "unfinished-0" / "checkpoint.pt").touch()
    assert newest_finished_run(tmp_path / "runs").name == "small-0"


def test_without_a_run_it_says_how_to_get_one(capsys, tmp_path):
    assert "no finished run under runs/" in told(capsys)
    assert "rgsud-fast train" in told(capsys)
    assert "no weights at" in told(capsys, "nowhere")
    (tmp_path / "run").mkdir()
    assert "has no derainer.safetensors" in told(capsys, "run")


def test_a_port_that_cannot_be_had_is_told(capsys, tmp_path):
    run = str(make_run(tmp_path / "run"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert f"port {port} cannot be used (Address already in use)" in told(capsys, run, "--port", port)
    assert "--port 70000" in told(capsys, run, "--port", "70000")
    assert "--tile 64 must be more than 64" in told(capsys, run, "--tile", "64")


def test_without_gradio_it_says_what_to_install(capsys, tmp_path, monkeypatch):
    run = str(make_run(tmp_path / "run"))
    monkeypatch.setitem(sys.modules, "gradio", None)
    for name in ("GRADIO_TEMP_DIR", "GRADIO_EXAMPLES_CACHE", *SETTINGS):
        monkeypatch.setenv(name, "")  # what the command sets is undone
    assert "pip install -e '.[demo]'" in told(capsys, run, "--port", "0")
