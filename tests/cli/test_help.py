"""What the command line tells of itself."""

from __future__ import annotations

import importlib.machinery
import subprocess
import sys
import types

import pytest
from one_line import told
from PIL import Image

from rgsud_fast import cli
from rgsud_fast.config import load_config
from rgsud_fast.ops._backends import KERNELS


def test_help_explains_every_field_with_its_default(capsys):
    assert cli.main(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())

    def fields(model, prefix=""):
        for name, field in type(model).model_fields.items():
            value = getattr(model, name)
            if hasattr(type(value), "model_fields"):
                yield from fields(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}".replace("_", "-"), field.description

    for flag, description in fields(load_config()):
        assert f"--{flag}" in text
        assert description
        assert "".join(description.split()) in "".join(text.split()), flag  # older terminals break [A,B] in two
    assert text.count("(default: ") >= 40
    assert "--config" in text
    assert "--resume" in text


def test_help_of_the_program_and_of_each_command(capsys):
    assert cli.main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert "docs/README.md" in overview
    assert "rgsud-fast completion bash" in overview
    for command in cli.COMMANDS:
        assert f"\n  {command}" in overview
        assert cli.main([command, "--help"]) == 0
        printed = capsys.readouterr().out
        assert f"rgsud-fast {command}" in printed
        assert cli.main(["help", command]) == 0
        assert capsys.readouterr().out == printed
    assert cli.main(["help"]) == 0
    assert capsys.readouterr().out == overview
    assert "unknown command 'dreain'" in told(capsys, ["help", "dreain"])
    assert cli.main([]) == 2


def test_import_and_help_do_not_wait_for_torch():
    code = (
        "import sys, rgsud_fast; from rgsud_fast import cli, Config, load_config; rgsud_fast.__version__;"
        "calls = (['--help'], ['train', '--help'], ['derain', '--help'], ['train', '--batch', 'x']);"
        "codes = [cli.main(call) for call in calls];"
        "sys.exit(codes != [0, 0, 0, 2] or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0


def test_public_names_are_all_there():
    import rgsud_fast

    assert set(rgsud_fast.__all__) <= set(dir(rgsud_fast))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rgsud_fast.nothing
    for name in ("derain", "evaluate", "rain", "Config", "load_config"):
        assert callable(getattr(rgsud_fast, name))


def test_info_prints_the_backends_of_every_op(capsys):
    assert cli.main(["info"]) == 0
    printed = capsys.readouterr().out
    assert all(op in printed for op in KERNELS)
    reasons = [line for line in printed.splitlines() if " off: " in line]
    assert len(reasons) == len({*reasons}), "ops alike are told in one line"


def test_the_metrics_of_score_are_listed_those_of_pyiqa_too(tmp_path, monkeypatch, capsys):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["score", "--list"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name}" in printed for name in ("niqe:FILE", "brisque:FILE", "daclip", "pyiqa:METRIC", "ensemble:["))
    assert "pip install -e '.[iqa]'" in printed
    monkeypatch.undo()
    stub = types.ModuleType("pyiqa")
    stub.__spec__ = importlib.machinery.ModuleSpec("pyiqa", None)
    stub.list_models = lambda metric_mode=None: ["piqe", "brisque"] + ["psnr"] * (metric_mode is None)
    monkeypatch.setitem(sys.modules, "pyiqa", stub)
    assert cli.main(["score", "--list"]) == 0
    assert "\n  brisque, piqe\n" in capsys.readouterr().out
    error = told(capsys, ["score", str(tmp_path), "--metric", "pyiqa:pique"])
    assert "pyiqa has no such metric (did you mean piqe?); rgsud-fast score --list" in error


def test_help_does_not_look_at_the_cpus(monkeypatch, capsys):
    monkeypatch.setattr("rgsud_fast.system.threads.choose", lambda: pytest.fail("looked"))
    assert cli.main(["derain", "--help"]) == 0
