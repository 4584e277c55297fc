"""`score` and `fit-niqe`, from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from rgsud_fast import cli
from rgsud_fast.data import write_image
from rgsud_fast.errors import UserError
from rgsud_fast.inference.score import score_files
from rgsud_fast.iqa import DomainScorer, NiqeModel, NiqeScorer, save_scorer
from rgsud_fast.iqa.domain import RainNet


def test_niqe_is_fitted_to_a_folder_and_scores_another(capsys, tmp_path):
    rng = np.random.default_rng(0)
    for folder, noise in (("good", 0), ("bad", 90)):
        for i in range(8):
            blocks = np.kron(rng.normal(128, 30, (12, 18, 3)), np.ones((16, 16, 1))) + rng.normal(0, 12, (192, 288, 3))
            image = np.clip(blocks + rng.normal(0, noise + 1e-9, blocks.shape), 0, 255).astype(np.uint8)
            write_image(tmp_path / folder / f"{i}.png", image)
    good, bad, model = (str(tmp_path / name) for name in ("good", "bad", "niqe.safetensors"))
    assert cli.main(["fit-niqe", good, model]) == 0
    assert "fitted to 8 photographs" in capsys.readouterr().out
    figures = str(tmp_path / "scores.json")
    assert cli.main(["score", bad, "--metric", model, "--pairs", good, "--json", figures, "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "niqe" in printed and "100.0%" in printed and "mean of 8 images" in printed
    with open(figures) as file:
        written = json.load(file)
    assert written["validity"] == 1
    assert len(written["images"]) == 8
    assert written["mean"] < min(row["clean_score"] for row in written["images"])


def test_an_image_that_cannot_be_scored_is_told_and_spoils_no_mean(capsys, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(8):
        write_image(tmp_path / "good" / f"{i}.png", rng.integers(0, 256, (192, 288, 3), dtype=np.uint8))
    write_image(tmp_path / "some" / "a.png", rng.integers(0, 256, (192, 288, 3), dtype=np.uint8))
    write_image(tmp_path / "some" / "b.png", np.full((192, 288, 3), 90, dtype=np.uint8))
    model = str(tmp_path / "niqe.safetensors")
    assert cli.main(["fit-niqe", str(tmp_path / "good"), model]) == 0
    assert cli.main(["score", str(tmp_path / "some"), "--metric", model, "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("none" in line and "b.png" in line for line in lines)
    assert not any("nan" in line for line in lines)
    assert cli.main(["score", str(tmp_path / "some"), "--metric", str(tmp_path / "nothing")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_what_cannot_be_judged_is_left_out_of_the_figures(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name, sides in (("a.png", (200, 200)), ("b.png", (40, 40))):
        for folder in ("rainy", "clean"):
            write_image(tmp_path / folder / name, rng.integers(0, 256, (*sides, 3), dtype=np.uint8))
    save_scorer(NiqeScorer(NiqeModel(torch.zeros(36).double(), torch.eye(36).double())), tmp_path / "niqe.safetensors")
    figures = score_files(tmp_path / "rainy", tmp_path / "niqe.safetensors", tmp_path / "clean")
    assert [row["score"] is None for row in figures["images"]] == [False, True]
    assert figures["pairs"] == 1
    assert figures["validity"] in (0.0, 1.0)
    arguments = [str(tmp_path / "rainy"), "--metric", str(tmp_path / "niqe.safetensors")]
    assert cli.main(["score", *arguments, "--pairs", str(tmp_path / "clean")]) == 0
    told = capsys.readouterr().out
    assert "mean of 1 of 2 images" in told
    assert "of 1 pair: " in told
    write_image(tmp_path / "clean" / "b.png", rng.integers(0, 256, (50, 60, 3), dtype=np.uint8))
    with pytest.raises(UserError, match=r"pair 2: b\.png is 40 x 40 pixels and b\.png 60 x 50"):
        score_files(tmp_path / "rainy", tmp_path / "niqe.safetensors", tmp_path / "clean")


def test_an_image_that_cannot_be_read_is_left_out_and_the_others_are_scored(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "c"):
        write_image(tmp_path / "in" / f"{name}.png", rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    save_scorer(DomainScorer(RainNet()), tmp_path / "scorer.safetensors")
    with pytest.warns(UserWarning, match=r"2 images are scored, 1 are left out: .*b\.png"):
        figures = score_files(tmp_path / "in", tmp_path / "scorer.safetensors", device="cpu")
    assert [row["name"] for row in figures["images"]] == ["a.png", "c.png"]
    for name in ("a", "c"):
        (tmp_path / "in" / f"{name}.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"no image is scored, 3 are left out"):
        score_files(tmp_path / "in", tmp_path / "scorer.safetensors", device="cpu")
