"""The study of what rewards are worth: every method has its branches, and a kill loses nothing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import TINY_RUN, darkness, run_of

from rgsud_fast.data import load_domains
from rgsud_fast.errors import UserError
from rgsud_fast.iqa import make_scorer
from rgsud_fast.methods.build import METHODS
from rgsud_fast.training.trainer import Trainer

STUDIES = Path(__file__).resolve().parent.parent / "bench/studies"


@pytest.fixture
def study(monkeypatch, tmp_path):
    """Make a study of tiny networks on images of noise."""
    monkeypatch.setattr(sys, "path", [str(STUDIES), *sys.path])
    from gains import Study

    generator = np.random.default_rng(0)
    sets = {"rain100l/train_rainy": 3, "clean": 2, "rain100l/val/rainy": 1, "rain100l/val/clean": 1}
    for name, count in sets.items():
        (tmp_path / name).mkdir(parents=True)
        for i in range(count):
            pixels = generator.integers(0, 256, (44, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    fields = {
        name: value
        for name, value in TINY_RUN.items()
        if name not in ("preset", "stage1_iterations", "stage2_iterations")
    }

    def make(method="rgsud", out="out", preset=None, iterations=(6, 4), **given):
        args = {"method": method, "preset": preset, "derainer": None, "iterations": iterations, "first": None}
        args |= {"branches": ["without", "loss", "switch"], "rain": "rain100l", "scorer": None, "threads": 1}
        args |= {"data": tmp_path}
        tiny = run_of(fields, method, save_every=2)
        args |= {
            "set": [{name: value for name, value in tiny.items() if name != "method"}],
            "out": tmp_path / out,
            **given,
        }
        return Study(
            argparse.Namespace(**args),
            0,
            lambda config, cache: load_domains(config.data, cache, print),
            lambda domains, config: make_scorer(darkness, domains.rainy, domains.clean),
        )

    return make


@pytest.mark.parametrize("method", [name for name in METHODS if name != "unirain"])
def test_every_method_has_its_branches(study, method):
    made = study(method, first=["none", "oriented"])
    figures = made.run()
    rows = figures["rows"]
    wanted = {"end of stage 1", "without rewards"}
    wanted |= {f"reward loss, first {first}" for first in ("none", "oriented")}
    if method != "cut":
        wanted |= {f"reward loss and switch, first {first}" for first in ("none", "oriented")}
    assert set(rows) == wanted
    assert all(np.isfinite([row["psnr"], row["disagreement"], row["rewarded"]]).all() for row in rows.values())
    assert rows["without rewards"]["rewarded"] == 0 and set(figures["references"]) >= {"rainy input", "fixed filter"}
    assert len(list(made.folder.glob("*.png"))) == len(rows)
    assert not list(made.folder.glob("loss-*.pt")), "what is finished needs no state"


def test_first_rewards_are_made_once_for_all_methods(study, monkeypatch):
    seeded, seed_rewards = [], Trainer.seed_rewards
    monkeypatch.setattr(Trainer, "seed_rewards", lambda self: seeded.append(1) or seed_rewards(self))
    rows = [study(m, first=["oriented"], branches=["loss"]).run()["rows"] for m in ("cyclegan", "cut")]
    assert len(seeded) == 1
    assert all(row["reward loss"]["rewarded before"] > 0 for row in rows)


def test_what_is_finished_is_not_trained_again(study, monkeypatch):
    figures = study(branches=["without"]).run()

    def never(self):
        raise AssertionError

    monkeypatch.setattr(Trainer, "iterate", never)
    assert study(branches=["without"]).run() == figures


@pytest.mark.parametrize("at", [3, 12])  # in stage 1, in the second branch
def test_a_kill_loses_nothing(study, monkeypatch, at):
    branches = ["without", "switch"]
    whole = study(branches=branches).run()
    iterate, count = Trainer.iterate, [0]

    def killed(self):
        count[0] += 1
        if count[0] == at:
            raise KeyboardInterrupt
        return iterate(self)

    monkeypatch.setattr(Trainer, "iterate", killed)
    with pytest.raises(KeyboardInterrupt):
        study(out="broken", branches=branches).run()
    resumed = study(out="broken", branches=branches).run()
    assert count[0] <= 6 + 2 * 4 + 2, "at most what came after the last checkpoint is done twice"
    for name, row in whole["rows"].items():
        seconds = {"cpu seconds": None}
        assert row | seconds == resumed["rows"][name] | seconds


def test_pasted_rain_sweeps_in_its_stage_1(study, monkeypatch):
    swept = []
    sweep = Trainer.sweep
    monkeypatch.setattr(Trainer, "sweep", lambda self: swept.append(self.step) or sweep(self))
    rows = study(preset="small", iterations=(6, 0), derainer="nafnet").run()["rows"]
    assert set(rows) == {"end of stage 1"} and swept and max(swept) < 6


def test_a_shorter_run_of_pasted_rain_sweeps_as_often(study):
    whole = study(preset="small", iterations=None, set=[]).config({})
    short = study(preset="small", iterations=(2400, 0), set=[]).config({})
    assert (whole.reward.sweep_every, whole.optim.warmup) == (2000, 250)
    assert (short.reward.sweep_every, short.optim.warmup) == (480, 60)
    fixed = study(preset="small", iterations=(2400, 0), out="fixed", set=[{"reward": {"sweep_every": 7}}])
    assert fixed.config({}).reward.sweep_every == 7


def test_stages_of_other_settings_are_not_taken_for_these(study):
    study()
    with pytest.raises(UserError, match="trained with other settings"):
        study(set=[{"batch": 4}])


def test_differences_are_paired_over_seeds(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(STUDIES), *sys.path])
    from gain_report import gain_tables

    def run(seed, **psnrs):
        rest = {"disagreement": 1.0, "rewarded": 1.0, "cpu seconds": 0.5}
        rows = {name.replace("_", " "): rest | {"psnr": psnr} for name, psnr in psnrs.items()}
        about = {"method": "cut", "preset": "small", "derainer": "nafnet", "lengths": "6+4", "rain": "rain100l"}
        return about | {"seed": seed, "references": {"rainy input": 25.47}, "rows": rows}

    table = gain_tables([run(0, without_rewards=20.0, reward_loss=21.0), run(1, without_rewards=30.0)])
    assert "seeds 0, 1" in table and "rainy input 25.47" in table
    table = gain_tables([run(seed, without_rewards=20.0 + seed, reward_loss=21.0 + 2 * seed) for seed in (0, 1, 2)])
    assert "| reward loss | 21.00, 23.00, 25.00 | 23.00 | +2.00 ± 0.58 |" in table
