"""Every example runs as it stands, for two iterations, on the embedded photographs."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import yaml

from rgsud_fast import data
from rgsud_fast.cli import main
from rgsud_fast.config.presets import PRESETS
from rgsud_fast.data import load, load_demo, write_image

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
LONGEST = {"own_method.py": 60}  # lines; the others 40


@pytest.fixture(scope="module")
def embedded():
    """The embedded photographs, whose rain is rendered once."""
    return load_demo()


@pytest.fixture(autouse=True)
def _short(embedded, monkeypatch, tmp_path):
    """A working folder of its own; presets with a short warm-up and sweep, and with a score that is quickly fitted."""
    for module in (data, load):
        monkeypatch.setattr(module, "load_demo", lambda: embedded)
    for preset in (PRESETS["demo"], PRESETS["small"], PRESETS["small-gan"]):
        monkeypatch.setitem(preset, "optim", preset["optim"] | {"discriminator_warmup": 1})
        monkeypatch.setitem(preset, "reward", preset["reward"] | {"sweep_images": 1, "scorer": "niqe"})
    monkeypatch.chdir(tmp_path)


def start(name: str, *arguments: str) -> None:
    """Run an example as its first line says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_an_example_is_short_and_says_how_it_is_run(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST.get(path.name, 40)
    assert f"examples/{path.name}" in text


def test_a_score_of_ones_own_trains(capsys):
    start("own_score.py", "2")
    assert "100% of the validation pairs" in capsys.readouterr().out
    assert Path("runs/demo-0/gallery.html").is_file()


def test_a_method_of_ones_own_trains(capsys):
    start("own_method.py", "2")
    assert "dB after" in capsys.readouterr().out
    assert Path("runs/demo-0/derainer.safetensors").is_file()


def test_a_derainer_of_ones_own_trains_and_comes_back(embedded, capsys):
    start("own_derainer.py", "2")
    pair = embedded.val[0]
    assert f"{pair.name}: {(3, *pair.rainy.shape[:2])}" in capsys.readouterr().out


def test_the_method_goes_by_hand(capsys):
    start("one_step.py", "2")
    assert capsys.readouterr().out.count("adversarial") == 2


def test_an_op_in_another_network_computes_the_same(capsys):
    start("ops_elsewhere.py", "2")
    assert float(capsys.readouterr().out.split()[2]) < 1e-5


def test_the_configuration_trains_and_its_rain_makes_pairs(embedded, capsys):
    folders = yaml.safe_load((EXAMPLES / "rain100l.yaml").read_text(encoding="utf-8"))["data"]
    images = {"rainy": [embedded.rainy[i] for i in range(2)], "clean": [*embedded.clean]}
    images |= {"val_rainy": [embedded.val[0].rainy], "val_clean": [embedded.val[0].clean]}
    for name, folder in folders.items():
        for i, image in enumerate(images[name]):
            write_image(Path(folder) / f"{i}.png", data.to_tensor(image))
    once = ["--stage1-iterations", "1", "--stage2-iterations", "1"]
    assert main(["train", "--config", str(EXAMPLES / "rain100l.yaml"), *once]) == 0
    start("pairs_for_another.py", "runs/rain100l", folders["clean"], folders["rainy"], "2")
    assert "8 pairs in runs/rain100l/pairs" in capsys.readouterr().out
