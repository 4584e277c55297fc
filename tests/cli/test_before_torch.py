"""What is told before torch is loaded, which takes seconds: missing files, and results that have no place."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CODE = """
import contextlib, io, json, sys
from rgsud_fast import cli

told = []
for args in json.load(sys.stdin):
    error = io.StringIO()
    with contextlib.redirect_stderr(error):
        code = cli.main(args)
    told.append([code, error.getvalue(), "torch" in sys.modules])
print(json.dumps(told))
"""
NO_IMAGE = "nowhere.jpg: no such file or folder"
NO_WEIGHTS = "no weights at nowhere.pth: give a run folder"
NO_SWITCH = "reward.switch: method cut does not read what was given there; leave it out"
CALLS = {
    "derain weights.pth nowhere.jpg out.png": NO_IMAGE,
    "derain nowhere.pth nowhere.jpg out.png": NO_IMAGE,
    "derain nowhere.pth a.png out.png": NO_WEIGHTS,
    "derain -i nowhere.jpg -o out.png -w weights.pth": NO_IMAGE,
    "derain weights.pth a.png out.png --device gpu": "device must be auto, cpu, cuda or cuda:N, got 'gpu'",
    "evaluate weights.pth --rainy nowhere.jpg --clean .": NO_IMAGE,
    "evaluate weights.pth --rainy . --clean nowhere.jpg": NO_IMAGE,
    "evaluate nowhere.pth --rainy . --clean .": NO_WEIGHTS,
    "evaluate weights.pth --rainy . --clean . --json no/f.json": "no/f.json: no is missing; give a folder",
    "evaluate weights.pth --rainy . --clean . --json a.png/f.json": "a.png/f.json: a.png is a file; give a folder",
    "evaluate weights.pth --rainy . --clean . --json .": ". is a folder: give the name of a file in it",
    "rain weights.pth nowhere.jpg . out": NO_IMAGE,
    "rain weights.pth . nowhere.jpg out": NO_IMAGE,
    "rain nowhere.pth . . out": NO_WEIGHTS,
    "export nowhere.pth --to onnx": NO_WEIGHTS,
    "score nowhere.jpg --metric daclip": NO_IMAGE,
    "score . --pairs nowhere.jpg --metric daclip": NO_IMAGE,
    "score . --metric nothing": "scorer nothing: no such file; give a run, its scorer.safetensors",
    "score . --metric niqe": "scorer niqe must be fitted first: give the path of a run trained with it",
    "score . --metric niqe:nowhere.npz": "scorer niqe:nowhere.npz: no such file as nowhere.npz",
    "score . --metric ensemble:[daclip,brisque:nowhere.yml]": "no such file as nowhere.yml",
    "score . --metric daclip --json no/f.json": "no/f.json: no is missing",
    "train --preset unirain-small": "data.pairs is not set: give the folder of labelled pairs",
    "train --preset unirain-small --data.rainy . --data.clean .": "data.pairs is not set: give the folder of",
    "train --method rgsud --device cpu --data.pairs .": "data.rainy is not set: give the folder of rainy photographs",
    "train --method csud --data.pairs .": "data.pairs: method csud takes no labelled pairs; take rgsud or unirain",
    "toolbox run nowhere a.png out": "no weights at nowhere: give a toolbox of rgsud-fast toolbox train or its agent",
    "fit-finpercep . out.safetensors --iterations 0": "iterations must be more than 0, got 0",
    "fit-finpercep . out.safetensors --size clip": "size clip needs --clip FILE",
    "distil nowhere . out": "nowhere is no index: make one with rgsud-fast index",
    "train --preset small --data.rainy .": "data.clean is not set: give the folder of clean photographs",
    "train --preset small --data.rainy . --data.clean ./": "data.rainy and data.clean are both .: give the folder of",
    "train --preset demo --reward.toolbox nowhere": "reward.toolbox: nowhere holds no finished toolbox: make one with",
    "train --preset small --method cut --reward.switch --data.rainy . --data.clean .": NO_SWITCH,
    "train --preset small --method cut --reward.no-switch --data.rainy . --data.clean .": NO_SWITCH,
    "demo nowhere.pth": NO_WEIGHTS,
    "demo": "no finished run under runs/",
    "demo a.png --device x": "device must be",
    "publish nowhere.pth a/b": NO_WEIGHTS,
    "fit-niqe nowhere.jpg out.safetensors": NO_IMAGE,
    "convert-daclip nowhere.pt out.safetensors": "nowhere.pt: no such file; give DA-CLIP's",
}


def test_missing_files_are_told_before_torch_is_loaded(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "weights.pth").touch()
    asked = json.dumps([call.split() for call in CALLS])
    done = subprocess.run(
        [sys.executable, "-c", CODE], input=asked, capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for (call, message), (code, error, loaded) in zip(CALLS.items(), json.loads(done.stdout), strict=True):
        assert message in error and code == 2, (call, error)
        assert not loaded, call
        assert error.count("\n") == 1, error


def test_a_folder_that_is_closed_takes_no_result(tmp_path, monkeypatch):
    from rgsud_fast.errors import UserError
    from rgsud_fast.system.given import check_target

    check_target(tmp_path / "f.json")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(UserError, match="cannot be written to"):
        check_target(tmp_path / "f.json")
