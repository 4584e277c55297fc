"""`rgsud-fast index` and `distil`: what they print, and mistakes told in one line before torch is loaded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from one_line import told

from rgsud_fast import cli

sys.path.insert(0, str(Path(__file__).parent.parent / "distillation"))
from scenes import pair, scene, write_all, write_pairs


def test_from_photographs_to_kept_pairs(capsys, tmp_path):
    write_all(tmp_path / "real", [pair(1000 + i, 60, 64)[0] for i in range(20)])
    write_all(tmp_path / "scenes", [scene(i, 100, 110) for i in range(2)])
    write_pairs(tmp_path / "trusted_streak", [pair(i) for i in range(30)])
    write_pairs(tmp_path / "set_streak", [pair(i) for i in range(200, 208)])
    place, out = tmp_path / "index", tmp_path / "out"
    device = ("--device", "cpu")
    args = ["index", tmp_path / "real", place, "--clean", tmp_path / "scenes", "--iterations", "2", *device]
    assert cli.main([str(arg) for arg in args]) == 0
    printed = capsys.readouterr().out
    assert f"indexed 20 photographs into {place}: " in printed and "fitting what tells types of rain apart" in printed

    args = ["distil", place, tmp_path / "set_streak", out, "--trusted", tmp_path / "trusted_streak", *device]
    assert cli.main([str(arg) for arg in [*args, "--budget", "4"]]) == 0
    printed = capsys.readouterr().out
    assert "streaks by day" in printed and "beyond the budget" in printed
    assert "a million pairs take one process" in printed and f"rgsud-fast train --data.pairs {out}" in printed
    assert len((out / "kept.jsonl").read_text().splitlines()) == 1 + 4


def test_mistakes_are_one_line(capsys, tmp_path):
    write_all(tmp_path / "few", [scene(i, 40, 40) for i in range(3)])
    write_all(tmp_path / "scenes", [scene(i, 40, 40) for i in range(10)])
    few, scenes, out, index = (tmp_path / name for name in ("few", "scenes", "out", "index"))
    index.mkdir()
    (index / "index.sqlite").touch()  # looked at before pairs and trusted ones, and read after them
    assert ": missing REFERENCES, OUT; rgsud-fast index --help" in told(capsys, ["index"])
    assert "distil takes INDEX PAIRS... OUT, three folders or more, and got 2 paths" in told(
        capsys, ["distil", few, few]
    )
    assert "nowhere: no such file or folder" in told(capsys, ["distil", index, tmp_path / "nowhere", out])
    assert "has 3 photographs, at least 20 needed" in told(capsys, ["index", few, out, "--device", "cpu"])
    captions = ["index", few, out, "--captions", few]
    assert "give --clip FOLDER beside --captions" in told(capsys, captions)
    assert "is no index: make one with" in told(capsys, ["distil", few, few, out, "--clean", scenes])
    assert "at least 20 of a type are needed" in told(capsys, ["distil", index, few, out, "--clean", few])
    assert "give --clean DIR" in told(capsys, ["distil", index, few, out])
    assert "OUT has no flag: it is told by its place" in told(capsys, ["distil", few, few, "--out", out])
    assert "--budget must be" in told(capsys, ["distil", few, few, out, "--budget", "many"])


@pytest.mark.parametrize("command", ["index", "distil"])
def test_help_says_what_is_taken(capsys, command):
    assert cli.main([command, "--help"]) == 0
    assert "go on where it was" in capsys.readouterr().out
