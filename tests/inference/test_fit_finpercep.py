"""Fitting FinPercep-RM from folders: its files, its errors, its resume; and scores with maps."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
import torch
from PIL import Image

import rgsud_fast
from rgsud_fast import cli
from rgsud_fast.data import load_demo, read_image
from rgsud_fast.errors import UserError
from rgsud_fast.inference import fit_finpercep as module
from rgsud_fast.inference.score import score_files
from rgsud_fast.iqa import load_scorer
from rgsud_fast.iqa.finpercep.fit import Fit, Recipe


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Small crops, and a base score of one step."""
    monkeypatch.setitem(module.Fit.__init__.__globals__["RECIPES"], "small", Recipe(48, 2, 6, 3e-3))
    monkeypatch.setattr(module, "base_scorer", _base)


def _base(rainy, clean, seed, device, watch):
    from rgsud_fast.iqa.finpercep import FinpercepScorer
    from rgsud_fast.iqa.finpercep.scorer import fit_domain_scorer

    base = fit_domain_scorer(rainy, clean, seed, iterations=1, device=device)
    return FinpercepScorer(base, torch.tensor([-1.0, 0.0, 1.0]))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Eight clean photographs of 96 x 112."""
    folder = tmp_path_factory.mktemp("clean")
    for i, image in enumerate(load_demo().clean):
        Image.fromarray(np.asarray(image)[:96, :112]).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def fitted(photographs, tmp_path_factory):
    """A fit of a moment."""
    path = tmp_path_factory.mktemp("fit") / "fin.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(Fit.__init__.__globals__["RECIPES"], "small", Recipe(48, 2, 6, 3e-3))
        patch.setattr(module, "base_scorer", _base)
        rgsud_fast.fit_finpercep(photographs, path)
    return path


def test_fit_writes_the_score_its_figures_and_a_page(fitted):
    figures = json.loads(fitted.with_suffix(".json").read_text())
    assert figures["iterations"] == 6 and set(figures["stages"]) == {"1", "2", "3"}
    assert figures["clean_images"] == 7 and figures["held_out_images"] == 1
    page = fitted.with_suffix(".html").read_text()
    assert "where it is spoiled" in page and "true map" in page and "Results of derainers that practised" in page
    assert len(load_scorer(fitted).networks) == 3
    assert not fitted.with_suffix(".partial").exists()


def test_interrupted_fit_goes_on_to_the_same_bits(photographs, fitted, tmp_path, monkeypatch):
    path, told = tmp_path / "fin.safetensors", []

    def stop(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rgsud_fast.fit_finpercep(photographs, path, watch=stop)
    assert path.with_suffix(".partial").exists() and not path.exists()
    rgsud_fast.fit_finpercep(photographs, path, say=told.append)
    assert "going on from" in told[0] and path.read_bytes() == fitted.read_bytes()


def test_a_signal_saves_and_the_same_command_goes_on(photographs, fitted, tmp_path, monkeypatch):
    path, told = tmp_path / "fin.safetensors", []
    monkeypatch.setattr(module, "SAVES", 1)  # none before the end but at the signal

    def stop(done, total):
        if done == 3:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        rgsud_fast.fit_finpercep(photographs, path, watch=stop, say=told.append)
    assert any("the same command goes on" in line for line in told)
    rgsud_fast.fit_finpercep(photographs, path)
    assert path.read_bytes() == fitted.read_bytes()


def test_a_partial_fit_of_other_options_is_left_alone(photographs, fitted, tmp_path):
    path = tmp_path / "fin.safetensors"
    path.with_suffix(".partial").write_bytes(b"no archive")
    figures = rgsud_fast.fit_finpercep(photographs, path, seed=1, iterations=3)
    assert figures["iterations"] == 3 and path.read_bytes() != fitted.read_bytes()


def test_minutes_become_iterations(photographs, tmp_path):
    assert rgsud_fast.fit_finpercep(photographs, tmp_path / "fin.safetensors", minutes=0.005)["iterations"] >= 3
    with pytest.raises(UserError, match="both given"):
        rgsud_fast.fit_finpercep(photographs, tmp_path / "fin.safetensors", minutes=1, iterations=3)


def test_rainy_photographs_teach_the_base_score(photographs, fitted, tmp_path):
    path = tmp_path / "fin.safetensors"
    rgsud_fast.fit_finpercep(photographs, path, rainy=photographs)
    assert path.read_bytes() != fitted.read_bytes()


def test_few_or_small_images_are_refused(photographs, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for i in range(3):
        (few / f"{i}.png").write_bytes((photographs / f"{i}.png").read_bytes())
    with pytest.raises(UserError, match="has 3 images: FinPercep-RM needs 8"):
        rgsud_fast.fit_finpercep(few, tmp_path / "fin.safetensors")
    Image.fromarray(np.zeros((95, 200, 3), np.uint8)).save(few / "9.png")
    with pytest.raises(UserError, match=r"9\.png is 200 x 95 pixels: FinPercep-RM needs 96"):
        rgsud_fast.fit_finpercep(few, tmp_path / "fin.safetensors")
    with pytest.raises(UserError, match=r"end the name in \.safetensors"):
        rgsud_fast.fit_finpercep(photographs, tmp_path / "fin.npz")


def test_validation_images_among_the_clean_ones_are_refused(photographs, tmp_path):
    """Trap 7."""
    val = tmp_path / "val"
    val.mkdir()
    (val / "other.png").write_bytes((photographs / "5.png").read_bytes())
    with pytest.raises(UserError, match=r"other\.png is also image 6 of .*must not see"):
        rgsud_fast.fit_finpercep(photographs, tmp_path / "fin.safetensors", val_clean=val)


def test_maps_are_written_and_returned(photographs, fitted, tmp_path, capsys):
    metric = f"finpercep:{fitted}"
    args = [str(photographs), "--metric", metric, "--rainy", str(photographs), "--maps", str(tmp_path / "maps")]
    assert cli.main(["score", *args, "--device", "cpu"]) == 0
    assert "wrote 8 maps" in capsys.readouterr().out
    assert read_image(tmp_path / "maps" / "3.png").shape == (96, 112, 3)
    image = torch.rand(2, 3, 40, 48)
    scores, maps = rgsud_fast.score(image, metric, rainy=image, maps=True)
    assert list(scores.shape) == [2] and list(maps.shape) == [2, 1, 40, 48] and 0 <= maps.min() <= maps.max() <= 1
    assert torch.equal(scores, rgsud_fast.score(image, metric, rainy=image))
    scores, maps = rgsud_fast.score(sorted(photographs.glob("*.png"))[:2], metric, maps=True)
    assert [list(one.shape) for one in maps] == [[1, 1, 96, 112]] * 2


def test_stages_score_differently(photographs, fitted):
    means = {score_files(photographs, f"finpercep:{fitted}", stage=stage)["mean"] for stage in range(4)}
    assert len(means) == 4
    with pytest.raises(UserError, match="--stage 4: this file holds the stages 0 to 3"):
        score_files(photographs, f"finpercep:{fitted}", stage=4)


def test_rainy_images_must_match(photographs, fitted, tmp_path):
    wet = tmp_path / "wet"
    wet.mkdir()
    for i in range(7):
        (wet / f"{i}.png").write_bytes((photographs / f"{i}.png").read_bytes())
    with pytest.raises(UserError, match="images has 8 images and rainy 7"):
        score_files(photographs, f"finpercep:{fitted}", rainy=wet)
    Image.fromarray(np.zeros((100, 112, 3), np.uint8)).save(wet / "7.png")
    with pytest.warns(UserWarning, match="112 x 100"):
        score_files(photographs, f"finpercep:{fitted}", rainy=wet)


def test_scores_without_maps_say_so(photographs, fitted, tmp_path):
    load_scorer(fitted)
    from rgsud_fast.iqa import save_scorer

    save_scorer(load_scorer(fitted).base, tmp_path / "domain.safetensors")
    with pytest.raises(UserError, match="the score domain cannot say where an image is spoiled: give finpercep:FILE"):
        score_files(photographs, tmp_path / "domain.safetensors", maps=tmp_path / "maps")
    with pytest.raises(UserError, match="stage 0 is a score without a map: give --stage 1, 2 or 3"):
        score_files(photographs, f"finpercep:{fitted}", stage=0, maps=tmp_path / "maps")
    with pytest.raises(UserError, match="--stage is of finpercep"):
        score_files(photographs, tmp_path / "domain.safetensors", stage=1)
    with pytest.raises(UserError, match="finpercep must be fitted first"):
        score_files(photographs, "finpercep")


def test_a_run_gives_its_own_rain_and_faults(photographs, config, tmp_path, monkeypatch):
    from tiny import darkness

    from rgsud_fast.inference import own_results

    monkeypatch.setattr(own_results, "OWN", 4)
    run = rgsud_fast.train(config | {"stage2_iterations": 0, "val_every": 0}, scorer=darkness, quiet=True).run_dir
    painted, own = own_results.own_material(run, load_demo().clean, photographs, 0, "cpu")
    assert len(painted) == 8 and len(own) == 4
    assert all(len({image.shape for image in images}) == 1 for images in (*painted, *own))
    path = tmp_path / "fin.safetensors"
    rgsud_fast.fit_finpercep(photographs, path, rainy=photographs, run=run, device="cpu")
    assert "Results of the run" in path.with_suffix(".html").read_text()
    (tmp_path / "val_clean" / "0.png").write_bytes((photographs / "0.png").read_bytes())
    with pytest.raises(UserError, match="must not see"):  # trap 7, by the run's own configuration
        rgsud_fast.fit_finpercep(photographs, path, run=run)


def test_an_interruption_before_the_fit_says_that_nothing_is_kept(photographs, tmp_path):
    def stop(phase):
        def watch(done, total):
            raise KeyboardInterrupt

        return watch

    told = []
    with pytest.raises(KeyboardInterrupt):
        rgsud_fast.fit_finpercep(photographs, tmp_path / "fin.safetensors", watch_before=stop, say=told.append)
    assert told == ["stopped before the fit went on; the same command begins anew"]
    assert not list(tmp_path.iterdir())


def test_numbers_below_0_are_refused(photographs, tmp_path):
    told = {
        "practised": "practised must be at least 0, got -1",
        "seed": "seed -1 must be at least 0",
        "minutes": "minutes must be more than 0, got -1",
        "iterations": "iterations must be more than 0, got -1",
    }
    for option, line in told.items():
        with pytest.raises(UserError, match=f"^{line}$"):
            rgsud_fast.fit_finpercep(photographs, tmp_path / "fin.safetensors", **{option: -1})


@pytest.mark.parametrize("minutes", [float("nan"), float("inf")])
def test_minutes_without_an_end_are_refused(minutes, photographs, tmp_path):
    with pytest.raises(UserError, match=r"^minutes must be more than 0, got (nan|inf)$"):
        rgsud_fast.fit_finpercep(photographs, tmp_path / "fin.safetensors", minutes=minutes)


def test_a_run_that_is_none_is_told_before_anything_is_learned(photographs, tmp_path):
    def watch(phase):
        raise AssertionError(phase)

    with pytest.raises(UserError, match=r"has no derainer\.safetensors"):
        rgsud_fast.fit_finpercep(photographs, tmp_path / "fin.safetensors", run=photographs, watch_before=watch)


def test_size_clip_needs_weights_and_no_other_takes_them(photographs, tmp_path):
    for options in ({"size": "clip"}, {"clip": tmp_path / "clip.pt"}):
        with pytest.raises(UserError, match="size clip needs --clip FILE"):
            rgsud_fast.fit_finpercep(photographs, tmp_path / "fin.safetensors", **options)
