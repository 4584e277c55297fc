"""The drift alarm: when it rings, what it measures, and that a run tells it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from rgsud_fast import train
from rgsud_fast.data import Domains, FolderSet, Pair
from rgsud_fast.iqa.metrics import psnr
from rgsud_fast.rewards.hacking import READINGS, HeldOutMetric, Reading, drifting, readings_of


def readings(scores, held_out):
    return [Reading(score, held) for score, held in zip(scores, held_out, strict=True)]


def test_rings_only_when_rewards_rise_and_the_held_out_metric_falls():
    rising, falling, steady = [1.0, 2.0, 3.0, 4.0], [25.0, 24.5, 24.2, 24.0], [25.0, 25.1, 25.0, 24.9]
    assert drifting(readings(rising, falling))
    assert not drifting(readings(rising, steady))
    assert not drifting(readings(rising, falling[::-1]))
    assert not drifting(readings([1.0, 2.0, 1.5, 4.0], falling))
    assert not drifting(readings(rising[: READINGS - 1], falling[: READINGS - 1]))
    assert drifting(readings([9.0, *rising], [30.0, *falling]))
    assert drifting(readings(rising, [-3.0, -3.1, -3.2, -3.3]))  # -NIQE


def test_the_log_gives_the_looks_back():
    log = [{"step": 1, "event": "train"}, {"mean_score": 1.0, "held_out": 25.0}, {"mean_score": 2.0, "held_out": None}]
    assert readings_of(log) == [Reading(1.0, 25.0)]
    assert readings_of([*log, {"event": "drift"}, *log]) == [Reading(1.0, 25.0)]
    assert readings_of([*log, {"event": "drift"}]) == []


def held_out_of(scorer="domain", val=None, side=40):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(6)]
    images = FolderSet.from_arrays([str(i) for i in range(6)], arrays)
    return HeldOutMetric(Domains(images, images, val), scorer, torch.device("cpu"))


def test_with_pairs_it_is_their_psnr():
    rng = np.random.default_rng(1)
    pairs = [Pair(str(i), *rng.integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)) for i in range(2)]
    held_out = held_out_of(val=pairs)
    tensors = [[torch.from_numpy(x).permute(2, 0, 1)[None] / 255 for x in (p.rainy, p.clean)] for p in pairs]
    assert held_out.name == "validation PSNR"
    assert held_out.measure(nn.Identity()) == pytest.approx(sum(psnr(*pair).item() for pair in tensors) / 2, abs=1e-4)


def test_without_pairs_it_is_niqe_unless_niqe_is_the_score_or_has_no_model():
    assert held_out_of(side=40).measure(nn.Identity()) is None
    held_out = held_out_of(side=400)
    assert held_out.name == "-NIQE"
    assert held_out.measure(nn.Identity()) < 0
    assert held_out_of("niqe", side=400).measure(nn.Identity()) is None


def test_a_gamed_run_is_told_and_logged(config, tmp_path, capsys, monkeypatch):
    falling, rising = iter(range(100, 0, -5)), iter(range(10**6))
    monkeypatch.setattr("rgsud_fast.rewards.hacking.HeldOutMetric.measure", lambda self, derainer: next(falling))
    config["reward"] = {"sweep_start": 0.0, "sweep_every": 1, "fidelity": 9.0}
    train(config, scorer=lambda images: torch.full((len(images),), float(next(rising))))
    assert "may be gamed" in capsys.readouterr().out
    events = [json.loads(line)["event"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert 1 <= events.count("drift") <= 3
