"""The weights that a run ends with: the last, or those of its best validation by the mean over types of rain."""

from __future__ import annotations

import warnings

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import darkness, labelled, same_bits, train_and_interrupt
from torch import nn

from rgsud_fast.config.figures import FIGURES
from rgsud_fast.iqa.metrics import average, by_type
from rgsud_fast.networks.weights import find_weights
from rgsud_fast.training import train
from rgsud_fast.training.best_weights import BestWeights, level_of


def test_the_weights_of_the_best_validation_are_kept_by_the_mean_over_types(config, monkeypatch):
    levels = iter((20.0, 24.0, 21.0))

    def validate(*args):
        level = next(levels)
        return dict.fromkeys(FIGURES, 99 - level) | {"types_mean": level}

    monkeypatch.setattr("rgsud_fast.training.monitor.validate", validate)
    run = labelled(config, keep_weights="best", stage1_iterations=6, stage2_iterations=0, val_every=2, save_every=1)
    run["optim"] = {"ema_decay": 0.0}
    weights = {}

    def note(path, state):
        weights[state["step"]] = {name: value.clone() for name, value in state["networks"]["derainer"].items()}

    monkeypatch.setattr("rgsud_fast.training.loop.save_checkpoint", note)
    result = train(run, quiet=True)
    kept = load_file(result.weights)
    assert same_bits(dict(kept), weights[4]) and not same_bits(dict(kept), weights[6])
    assert result.metrics["kept_step"] == 4 and result.metrics["steps"] == 6
    with safe_open(result.weights, "pt") as file:
        assert (file.metadata()["step"], file.metadata()["kept_step"]) == ("6", "4")
    assert "the weights, of step 4, were chosen by these pairs" in (result.run_dir / "README.md").read_text()


def test_the_best_weights_go_on_in_a_resumed_run(config, monkeypatch, tmp_path):
    whole = train(labelled(config, keep_weights="best", val_every=2), quiet=True)
    broken = labelled(config, keep_weights="best", val_every=2, out=str(tmp_path / "broken"))
    train_and_interrupt(broken, 4, monkeypatch)
    resumed = train(broken, scorer=darkness, resume=True, quiet=True)
    states = [torch.load(r.run_dir / "checkpoint.pt", weights_only=True)["best"] for r in (whole, resumed)]
    assert states[0]["weights"] and same_bits(*states)
    assert same_bits(*(dict(load_file(r.weights)) for r in (whole, resumed)))


def test_without_validation_pairs_the_last_weights_are_kept_and_nothing_is_claimed(config, capsys):
    run = {**config, "data": {name: config["data"][name] for name in ("rainy", "clean")}}
    result = train(run | {"keep_weights": "best"}, scorer=darkness)
    assert "there are none: the last weights are kept" in capsys.readouterr().out
    assert "kept_step" not in result.metrics


def test_levels_of_types_choose_weights_and_without_types_images_do():
    rows = [{"psnr_rgb": 30.0}] * 8 + [{"psnr_rgb": 20.0}]
    kinds = ["drs"] * 8 + ["nrd"]
    figures = average(rows) | by_type(rows, kinds)
    assert level_of(figures) == 25 and figures["types_spread"] == 10
    assert level_of(average(rows)) == pytest.approx(28.9, abs=0.02)
    best, net = BestWeights(), nn.Conv2d(3, 3, 1)
    best.offer(1, {"psnr_rgb": 20.0}, net)
    best.offer(2, {"psnr_rgb": float("nan")}, net)
    best.offer(3, {"psnr_rgb": 20.0}, net)
    assert best.step == 1
    with torch.no_grad():
        net.weight.zero_()
    assert best.weights["weight"].abs().sum() > 0  # a copy


class Remembers(nn.Conv2d):
    """A derainer that cannot be copied once it has trained: it holds on to a part of the graph."""

    def forward(self, x):
        self.last = super().forward(x)
        return self.last


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_a_derainer_that_cannot_be_copied_ends_with_its_best_weights_too(config, monkeypatch, decay):
    levels = iter((24.0, 21.0))
    monkeypatch.setattr(
        "rgsud_fast.training.monitor.validate",
        lambda *args: dict.fromkeys(FIGURES, 30.0) | {"types_mean": next(levels)},
    )
    run = labelled(config, keep_weights="best", stage1_iterations=4, stage2_iterations=0, val_every=2)
    run["optim"] = {"ema_decay": decay}
    own = Remembers(3, 3, 3, padding=1)
    result = train(run, derainer=own, quiet=True)
    assert result.metrics["kept_step"] == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the run did not go on after its weights were written
        assert find_weights(result.run_dir) == result.weights
    assert not same_bits(dict(load_file(result.weights)), own.state_dict())  # it ends with its last
