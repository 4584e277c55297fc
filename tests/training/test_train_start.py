"""How a run starts: what is refused before it, which preset it takes, the discriminator's warm-up."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import darkness, run_of

import rgsud_fast.training.step as step_module
from rgsud_fast.config import merge
from rgsud_fast.config.load import with_preset
from rgsud_fast.errors import UserError
from rgsud_fast.methods import rgsud
from rgsud_fast.networks import Discriminator
from rgsud_fast.runs.folder import RunFolder
from rgsud_fast.training import train
from rgsud_fast.training.step import TrainStep


@pytest.mark.parametrize(
    "derainer, message",
    [
        (torch.nn.Conv2d, r"an object of such a class; got the class Conv2d"),
        (torch.nn.Identity(), "Identity has no parameters to train"),
        (torch.nn.Conv2d(3, 4, 3), r"it made \[1, 4, 30, 30\] of \[1, 3, 32, 32\]"),
    ],
    ids=["class", "no parameters", "shape"],
)
def test_a_derainer_that_cannot_be_trained_is_refused_and_leaves_nothing(config, derainer, message):
    with pytest.raises(UserError, match=message):
        train(config, derainer=derainer, scorer=darkness, quiet=True)


def test_a_start_that_fails_leaves_no_folder(config):
    with pytest.raises(UserError, match=r"data\.rainy"):
        train(config | {"data": config["data"] | {"rainy": "nowhere"}}, quiet=True)
    assert not RunFolder(config["out"]).path.exists()


def test_a_run_killed_before_its_first_checkpoint_starts_anew_with_an_empty_log(config):
    folder = RunFolder(config["out"])
    folder.path.mkdir()
    (folder.path / ".checkpoint-abcd_123.pt").touch()
    for row in ({"step": 0, "event": "sweep"}, {"step": 1, "event": "train"}):
        folder.append_log(row)
    train(config | {"stage2_iterations": 0}, scorer=darkness, quiet=True)
    assert [row["step"] for row in folder.read_log() if row["event"] == "train"] == [2, 4, 6]
    assert not list(folder.path.glob(".*"))


def test_an_interrupted_warm_up_stops_at_once_and_says_so(config, monkeypatch, capsys):
    taught = []

    def teach(self, judged):
        taught.append(len(judged["discriminator"].fake))
        os.kill(os.getpid(), signal.SIGINT)
        return {}

    monkeypatch.setattr(step_module.TrainStep, "discriminator_side", teach)
    optim = config["optim"] | {"discriminator_warmup": 50}
    with pytest.raises(KeyboardInterrupt):
        train(config | {"optim": optim}, scorer=darkness)
    assert len(taught) == 1
    assert "stopped before the first step" in capsys.readouterr().out


def test_that_kernels_are_compiled_is_told_before_the_first_step(config, monkeypatch, capsys):
    def stop(self, *given):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["rgsud_fast.training.train"], "compiled_when_launched", lambda device: "minutes")
    monkeypatch.setattr(step_module.TrainStep, "generator_side", stop)
    with pytest.raises(KeyboardInterrupt):
        train(config, scorer=darkness)
    assert "minutes" in capsys.readouterr().out


def test_a_score_that_is_never_finite_is_told(config, capsys):
    result = train(config, scorer=lambda images: images.sum(dim=(1, 2, 3)) * float("nan"))
    assert result.metrics["rewards"] == 0
    assert "none of 3 derained images may be a reward" in capsys.readouterr().out


@pytest.mark.parametrize("named", [True, False], ids=["folders", "no folders"])
def test_without_a_preset_the_device_chooses(config, named, monkeypatch):
    given = {key: value for key, value in config.items() if key != "preset"}
    chosen, line = with_preset(given if named else {"device": "cpu"})
    assert chosen["preset"] == ("small" if named else "demo")
    assert chosen["preset"] in line
    assert with_preset({"preset": "paper"}) == ({"preset": "paper"}, "")
    assert with_preset(given | {"device": "cuda"})[0]["preset"] == "paper"


def test_a_warm_up_teaches_the_discriminator_alone(config, monkeypatch):
    before = None

    def stage1(nets, *args):
        nonlocal before
        before = before or [parameter.detach().clone() for net in nets for parameter in net.parameters()]
        return original(nets, *args)

    original = rgsud.stage1
    monkeypatch.setattr(rgsud, "stage1", stage1)
    states = []
    for steps in (0, 3):
        before = None
        optim = config["optim"] | {"discriminator_warmup": steps}
        train(config | {"optim": optim, "out": f"{config['out']}-{steps}"}, scorer=darkness, quiet=True)
        states.append(before)
    changed = [not torch.equal(a, b) for a, b in zip(*states, strict=True)]
    fixed = len(changed) - len(list(Discriminator(4).parameters()))
    assert not any(changed[:fixed])
    assert any(changed[fixed:])


@pytest.mark.parametrize("method", ["rgsud", "cyclegan"])
def test_judges_warm_up_at_their_own_rate_which_does_not_rise(config, monkeypatch, method):
    rates = []

    def discriminator_side(self, judged):
        rates.append(self.discriminator_optimizer.param_groups[0]["lr"])
        return original(self, judged)

    original = TrainStep.discriminator_side
    monkeypatch.setattr(TrainStep, "discriminator_side", discriminator_side)
    optim = {"discriminator_warmup": 2, "learning_rate": 3e-4, "discriminator_ratio": 2.0, "warmup": 5}
    train(run_of(config, method, optim=optim), scorer=darkness, quiet=True)
    assert rates == [6e-4, 6e-4]


class Talkative(torch.nn.Conv2d):
    """A derainer whose state is more than tensors."""

    def __init__(self):
        super().__init__(3, 3, 1)

    def get_extra_state(self):
        return {"notes": "not a tensor"}

    def set_extra_state(self, state):
        pass


def test_what_cannot_be_saved_at_the_end_is_refused_before_the_first_step(config):
    with pytest.raises(UserError, match=r"weights of your derainer Talkative cannot be saved"):
        train(config, derainer=Talkative(), scorer=darkness, quiet=True)
    assert not RunFolder(config["out"]).log.exists()


def test_niqe_of_a_file_in_fortran_order_ends_with_every_file_and_resumes(config, tmp_path):
    rng = np.random.default_rng(0)
    cov = rng.normal(size=(36, 36))
    np.savez(tmp_path / "n.npz", mu_pris_param=rng.normal(size=(1, 36)), cov_pris_param=np.asfortranarray(cov @ cov.T))
    for folder in ("rainy", "clean", "val_rainy", "val_clean"):
        for path in (tmp_path / folder).iterdir():
            Image.fromarray(rng.integers(0, 256, (112, 112, 3), dtype=np.uint8)).save(path)
    config = merge(config, {"reward": {"scorer": f"niqe:{tmp_path / 'n.npz'}"}, "stage2_iterations": 0})
    result = train(config, quiet=True)
    assert {"scorer.safetensors", "metrics.json", "README.md", "gallery.html"} <= set(os.listdir(result.run_dir))
    assert train(config, resume=True, quiet=True).metrics == result.metrics
