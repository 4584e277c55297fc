"""A toolbox's results compete for the pool in a sweep, guarded like the derainer's, and are counted."""

from __future__ import annotations

import types

import pytest
import torch
from sweeps import CPU, PAPER, Darken
from torch import nn

from rgsud_fast.config import RewardConfig
from rgsud_fast.errors import UserError
from rgsud_fast.rewards.pool import RewardPool
from rgsud_fast.rewards.sweep import open_toolbox, sweep


class Box(nn.Module):
    """In a toolbox's place: it knows nothing but to darken, and cannot look at images smaller than its agent's side."""

    def __init__(self, factor: float, side: int = 40) -> None:
        super().__init__()
        self.factor, self.agent = factor, types.SimpleNamespace(side=side)

    def for_photo(self, read, height, width):
        assert read(0, height, 0, width).shape == (1, 3, height, width)
        return lambda image: image * self.factor


def sweep_with(box, derainer, rainy, scorer, pool, monkeypatch, **fields):
    monkeypatch.setattr("rgsud_fast.rewards.sweep.open_toolbox", lambda reward, device: box)
    return sweep(derainer, rainy, range(3), scorer, pool, CPU, RewardConfig(**fields))


def test_a_toolbox_competes_for_the_pool_and_the_sweep_says_whose_candidates_entered(rainy, darkness, monkeypatch):
    pool = RewardPool(rainy.sizes)
    worse, _ = sweep_with(Box(0.97), Darken(0.95), rainy, darkness, pool, monkeypatch)
    assert (worse.entered, worse.toolbox) == (3, 0)
    better, places = sweep_with(Box(0.9), Darken(0.96), rainy, darkness, pool, monkeypatch)
    assert (better.entered, better.toolbox, places) == (3, 3, [0, 0, 0])
    expected = (torch.from_numpy(rainy[1].copy()).float() * 0.9).round()
    assert (pool.best(1)[0].float() - expected).abs().max() <= 1
    monkeypatch.undo()
    assert sweep(Darken(0.9), rainy, range(3), darkness, pool, CPU, PAPER)[0].toolbox is None


def test_a_toolboxs_candidates_are_guarded_too_and_small_images_have_none(rainy, darkness, monkeypatch):
    pool = RewardPool(rainy.sizes)
    black, places = sweep_with(Box(0.0), Darken(0.95), rainy, darkness, pool, monkeypatch)
    assert (black.entered, black.toolbox, places) == (3, 0, [0, 0, 0])
    large, _ = sweep_with(Box(0.9, side=45), Darken(0.95), rainy, darkness, pool, monkeypatch)
    assert large.toolbox == 1  # of 40 x 50, 64 x 48 and 40 x 50 pixels


def test_a_toolbox_that_is_none_is_told(tmp_path):
    with pytest.raises(UserError, match="holds no finished toolbox"):
        open_toolbox(RewardConfig(toolbox=tmp_path), CPU)
    assert open_toolbox(PAPER, CPU) is None
