"""The commands about toolboxes, from the command line; mistakes in one line."""

import json
import subprocess
import sys

import pytest
import yaml
from boxes import TINY_BOX, write_scenes

from rgsud_fast import cli


def told(capsys, args, code=2):
    assert cli.main(args) == code
    captured = capsys.readouterr()
    assert len(captured.err.strip().splitlines()) == 1, captured.err
    return captured.err


def test_a_toolbox_is_trained_used_measured_and_extended(tmp_path, capsys):
    scenes, box = write_scenes(tmp_path / "clean"), str(tmp_path / "box")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY_BOX))
    assert cli.main(["toolbox", "train", str(scenes), "--out", box, "--config", str(tmp_path / "tiny.yaml")]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load((tmp_path / "box" / "config.yaml").read_text())["device"] == "cpu"  # as the file says
    assert "best fixed chain" in printed and "rgsud-fast toolbox run" in printed
    photo, out = str(scenes / "00.png"), str(tmp_path / "out")
    assert cli.main(["toolbox", "run", box, photo, out, "--trace", str(tmp_path / "trace")]) == 0
    assert "wrote 1 image" in capsys.readouterr().out and (tmp_path / "trace" / "00.json").is_file()
    assert cli.main(["derain", box, photo, str(tmp_path / "one.png")]) == 0
    capsys.readouterr()
    figures = str(tmp_path / "figures.json")
    arguments = ["--clean", str(scenes), "--episodes", "4", "--severity", "mild", "--json", figures]
    assert cli.main(["toolbox", "evaluate", box, *arguments]) == 0
    assert "full search" in capsys.readouterr().out and json.loads((tmp_path / "figures.json").read_text())["mild"]
    tool = f"{box}/tools/soft.safetensors"
    assert cli.main(["toolbox", "add", box, "again", tool]) == 0
    assert f"train --resume --out {box}" in capsys.readouterr().out
    assert "without an agent yet" in told(capsys, ["derain", box, photo, out])
    assert cli.main(["toolbox", "train", "--resume", "--out", box]) == 0
    assert "everything is in" in capsys.readouterr().out
    assert json.loads((tmp_path / "box" / "metrics.json").read_text())["tools"] == ["soft", "sharp", "again"]


@pytest.mark.parametrize(
    "args, message",
    [
        ("", "toolbox takes train, run, evaluate or add"),
        ("trian", "got 'trian'"),
        ("train --out b", "missing CLEAN"),
        ("train --agent-anew --out b", "give --resume with --agent-anew"),
        ("train nowhere --out b", "nowhere: no such file or folder"),
        ("train . --out b --presett x", "unknown argument --presett (did you mean --preset?)"),
        ("train . --out b --preset x", "--preset must be "),
        ("run b", "missing PHOTOS, OUT"),
        ("run nowhere . out", "no weights at nowhere"),
        ("run . nowhere.jpg out", "nowhere.jpg: no such file or folder"),
        ("evaluate .", "give one of --clean and --pairs"),
        ("evaluate . --clean . --pairs .", "give one of --clean and --pairs"),
        ("add . a nowhere", "no weights at nowhere"),
    ],
)
def test_mistakes_are_one_line(capsys, args, message):
    assert message in told(capsys, ["toolbox", *args.split()])


def test_mistakes_and_help_do_not_wait_for_torch():
    code = (
        "import sys; from rgsud_fast import cli; cli.main(['toolbox', 'train', '--help']);"
        " cli.main(['toolbox', 'run', 'a', 'b', 'c']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip().endswith("False")
