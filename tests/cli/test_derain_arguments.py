"""What the paths of `derain` stand for: options, positions, and the newest finished run where no weights are named."""

from __future__ import annotations

import pytest
import torch
from plain_nafnet import drawn

from rgsud_fast import cli
from rgsud_fast.data import write_image
from rgsud_fast.networks import NAFNet
from rgsud_fast.networks.weights import save_network


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A working folder with a finished run and a photograph."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "demo-0").mkdir(parents=True)
    save_network(tmp_path / "runs" / "demo-0" / "derainer.safetensors", drawn(NAFNet(4, [1], 1, [1])), "derainer")
    (tmp_path / "runs" / "demo-0" / "metrics.json").write_text("{}")
    write_image(tmp_path / "photo.png", torch.rand(3, 16, 20))
    return tmp_path / "runs" / "demo-0"


def told(capsys, *args):
    assert cli.main(["derain", *args]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "args",
    [
        "photo.png out.png",
        "runs/demo-0 photo.png out.png",
        "-i photo.png -o out.png",
        "-i photo.png -o out.png -w runs/demo-0",
        "--weights runs/demo-0 photo.png out.png",
        "photo.png -o out.png",
        "runs/demo-0 -i photo.png --output out.png",
        "runs/demo-0 out.png --input=photo.png",
        "--tile 32 --overlap 8 photo.png out.png",
    ],
)
def test_paths_are_named_by_place_or_by_option(finished, capsys, args):
    assert cli.main(["derain", *args.split()]) == 0
    assert (finished.parents[1] / "out.png").is_file()
    said = "with the weights of runs/demo-0" in capsys.readouterr().out
    assert said == ("runs/demo-0" not in args)


def test_weights_are_not_taken_for_the_input(finished, capsys):
    for weights in ("runs/demo-0", "runs/demo-0/derainer.safetensors", "nafnet.pth", "hf:a/b"):
        assert "these are weights; give WEIGHTS INPUT OUTPUT" in told(capsys, weights, "photo.png")


def test_too_many_and_too_few_paths_are_told(finished, capsys):
    assert "got 4 paths for WEIGHTS INPUT OUTPUT" in told(capsys, "a", "b", "c", "d")
    assert "got 0 paths for WEIGHTS OUTPUT" in told(capsys, "-i", "a")
    assert "got 1 paths for none" in told(capsys, "a", "-i", "a", "-o", "b", "-w", "c")


def test_without_a_finished_run_the_way_to_one_is_told(finished, capsys):
    (finished / "metrics.json").unlink()
    assert "train one first" in told(capsys, "photo.png", "out.png")
    (finished / "checkpoint.pt").touch()
    assert "train --resume --out runs/demo-0" in told(capsys, "photo.png", "out.png")


def test_an_unfinished_run_derains_and_says_so_in_one_line(finished, capsys):
    (finished / "derainer.safetensors").unlink()
    held = {"derainer": drawn(NAFNet(4, [1], 1, [1])).state_dict()}
    torch.save({"version": 1, "step": 7, "sweeps": 0, "networks": held}, finished / "checkpoint.pt")
    assert cli.main(["derain", "runs/demo-0", "photo.png", "out.png"]) == 0
    told_once = capsys.readouterr().err.splitlines()
    assert ["is not finished: these are its weights at step 7" in line for line in told_once] == [True]


def test_a_warning_of_ours_is_one_line_and_a_librarys_stays(capsys):
    from rgsud_fast.cli.main import _warn

    _warn("a\nb", UserWarning, cli.__file__, 3)
    _warn("a", UserWarning, "/lib/x.py", 3)
    assert capsys.readouterr().err == "rgsud-fast: a b\n/lib/x.py:3: UserWarning: a\n"


@pytest.mark.parametrize(
    "average, derainer", [({"n_averaged": "abc"}, None), (None, {"first.weight": 3, "last.weight": 4})]
)
def test_a_checkpoint_that_makes_no_sense_is_refused_in_one_line(finished, capsys, average, derainer):
    (finished / "derainer.safetensors").unlink()
    held = {"derainer": derainer or drawn(NAFNet(4, [1], 1, [1])).state_dict() | {"more": "text"}}
    state = {"version": 1, "step": 7, "sweeps": 0, "networks": held, "average": average}
    torch.save(state, finished / "checkpoint.pt")
    assert cli.main(["derain", "runs/demo-0", "photo.png", "out.png"]) == 2
    assert "holds a derainer of your own" in capsys.readouterr().err


def test_a_run_is_not_taken_for_the_output(finished, capsys):
    assert "these are weights; give WEIGHTS INPUT OUTPUT" in told(capsys, "-i", "photo.png", "runs/demo-0")
