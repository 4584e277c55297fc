"""FinPercep-RM as a score: its values and maps, large images, and its files, of which none is trusted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mapped import untrained
from safetensors.torch import save_file

from rgsud_fast.errors import UserError
from rgsud_fast.iqa import load_scorer, make_scorer, restore_scorer, save_scorer

SIDE = 48


def test_stage_0_is_the_base_score_and_has_no_map():
    scorer, images, rainy = untrained(0), torch.rand(2, 3, 40, 40), torch.rand(2, 3, 40, 40)
    assert torch.equal(scorer.score(images, rainy), scorer.base.score(images, rainy))
    assert not scorer.maps and not scorer.map(images).any()
    with pytest.raises(ValueError, match="stage 0"):
        scorer.reward(images, rainy)


def test_score_depends_on_no_neighbour():
    scorer, images, rainy = untrained(), torch.rand(3, 3, 40, 40), torch.rand(3, 3, 40, 40)
    scores, spoiled = scorer.score_and_map(images, rainy)
    assert torch.equal(scores, scorer.score(images, rainy)) and torch.equal(spoiled, scorer.map(images, rainy))
    assert torch.equal(scores[1:2], scorer.score(images[1:2], rainy[1:2]))


def test_reward_has_a_gradient_to_the_image():
    scorer, rainy = untrained(), torch.rand(2, 3, 40, 40)
    image = rainy.clone().requires_grad_()
    scorer.reward(image, rainy).sum().backward()
    assert torch.isfinite(image.grad).all() and image.grad.abs().sum() > 0


def test_large_images_are_scored_by_windows(monkeypatch):
    from rgsud_fast.iqa.finpercep import scorer as module

    image, rainy = torch.rand(1, 3, 70, 90), torch.rand(1, 3, 70, 90)
    whole = untrained().score_and_map(image, rainy)
    monkeypatch.setattr(module, "LARGEST", 1000)
    monkeypatch.setattr(module, "WINDOW", 48)
    tiled = untrained().score_and_map(image, rainy)
    assert tiled[1].shape == whole[1].shape and float((tiled[0] - whole[0]).abs()) < 0.05


def test_scorer_is_saved_and_loaded_with_all_stages(tmp_path):
    scorer, images, rainy = untrained(), torch.rand(1, 3, 40, 40), torch.rand(1, 3, 40, 40)
    save_scorer(scorer, tmp_path / "fin.safetensors")
    for loaded in (
        load_scorer(tmp_path / "fin.safetensors"),
        make_scorer(f"finpercep:{tmp_path / 'fin.safetensors'}", (), ()),
        restore_scorer("finpercep", scorer.state()),
    ):
        for stage in range(4):
            loaded.stage = scorer.stage = stage
            assert torch.equal(loaded.score(images, rainy), scorer.score(images, rainy))
        assert loaded.side == SIDE


def test_files_of_another_score_or_version_are_refused(tmp_path):
    path = tmp_path / "fin.safetensors"
    save_scorer(untrained().base, path)
    with pytest.raises(UserError, match="holds the score domain"):
        make_scorer(f"finpercep:{path}", (), ())
    scorer = untrained()
    state = scorer.state()
    state["options"][0] = 9
    scorer.state = lambda: state
    save_scorer(scorer, path)
    with pytest.raises(UserError, match="no fitted scorer"):
        load_scorer(path)


def test_ensemble_needs_a_fitted_file():
    with pytest.raises(UserError, match="in an ensemble finpercep needs a file"):
        make_scorer("ensemble:[finpercep,niqe]", (), ())


def test_any_file_gives_a_scorer_or_one_line(tmp_path):
    """Tensors of other sizes, types and values, or none."""
    path, state = tmp_path / "fin.safetensors", untrained().state()
    rng = np.random.default_rng(0)
    strange = (torch.zeros(()), torch.zeros(0), torch.zeros(0, 7), torch.full((4,), torch.nan), torch.ones(3, 0, 3, 3))
    for number in range(60):
        name = [*state][int(rng.integers(len(state)))] if number >= 8 else ["options", "reference"][number % 2]
        broken = {**state, name: strange[int(rng.integers(len(strange)))]} if number % 6 else {**state}
        if not number % 6:
            del broken[name]
        save_file(broken, path, metadata={"scorer": "finpercep"})
        try:
            load_scorer(path).score(torch.rand(1, 3, 40, 40))
        except UserError as error:
            assert "no fitted scorer" in str(error)
