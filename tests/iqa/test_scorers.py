"""One protocol for every score: names, functions, files."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rgsud_fast.errors import UserError
from rgsud_fast.iqa import DomainScorer, load_scorer, make_scorer, restore_scorer, save_scorer, score, validity
from rgsud_fast.iqa.domain import RainNet
from rgsud_fast.iqa.factory import check_saves
from rgsud_fast.iqa.niqe import NiqeModel, NiqeScorer
from rgsud_fast.iqa.scorer import finite


def brightness(images):
    return images.mean((1, 2, 3))


def test_a_function_is_a_scorer():
    scorer = make_scorer(brightness, [], [])
    images = torch.rand(3, 3, 8, 8)
    assert scorer.name == "brightness"
    assert torch.equal(scorer.score(images, rainy=images), brightness(images))


@pytest.mark.parametrize(
    "result", [lambda x: [0.5] * len(x), lambda x: np.zeros((len(x), 1)), lambda x: torch.zeros(len(x), 1, 1).double()]
)
def test_a_functions_result_is_brought_to_one_float32_per_image(result):
    scores = make_scorer(result, [], []).score(torch.rand(2, 3, 8, 8))
    assert scores.shape == (2,)
    assert scores.dtype == torch.float32


@pytest.mark.parametrize("result", [lambda x: 1.0, lambda x: None, lambda x: x, lambda x: "good"])
def test_a_function_of_another_shape_is_refused_by_name(result):
    with pytest.raises(UserError, match=r"scorer <lambda> must return one number per image, \[2\]"):
        make_scorer(result, [], []).score(torch.rand(2, 3, 8, 8))


def test_an_unknown_name_lists_the_known_ones():
    for ask in (lambda: make_scorer("nqie", [], []), lambda: restore_scorer("nqie", {})):
        with pytest.raises(UserError, match="scorer nqie: no such score; choose one of domain, niqe"):
            ask()


def test_validity_is_the_share_of_pairs_in_the_right_order():
    bright, dark = np.full((8, 8, 3), 200, np.uint8), np.full((8, 8, 3), 50, np.uint8)
    pairs = [SimpleNamespace(rainy=dark, clean=bright)] * 3 + [SimpleNamespace(rainy=bright, clean=dark)]
    assert validity(make_scorer(brightness, [], []), pairs) == 0.75
    assert np.isnan(validity(make_scorer(brightness, [], []), []))


def test_score_takes_tensors_and_arrays():
    array = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    tensor = torch.from_numpy(array).permute(2, 0, 1).float() / 255
    expected = brightness(tensor[None])
    for images in (tensor, tensor[None], array, [array]):
        assert torch.equal(score(images, brightness), expected)
    with pytest.raises(ValueError, match=r"images must be a floating-point \[N, 3, H, W\]"):
        score(torch.zeros(1, 1, 8, 8), brightness)
    with pytest.raises(ValueError, match="rainy must have the shape of images"):
        score(torch.zeros(1, 3, 8, 8), brightness, rainy=torch.zeros(1, 3, 8, 9))


def test_a_saved_scorer_scores_alike(tmp_path):
    torch.manual_seed(0)
    scorer, images = DomainScorer(RainNet()), torch.rand(2, 3, 33, 40)
    save_scorer(scorer, tmp_path / "scorer.safetensors")
    assert torch.equal(score(images, tmp_path / "scorer.safetensors"), scorer.score(images))
    assert torch.equal(restore_scorer("domain", scorer.state()).score(images), scorer.score(images))


def test_niqe_by_a_file_of_fit_niqe_and_a_scorer_of_another_kind_there(tmp_path):
    model = NiqeModel(torch.linspace(0, 1, 36, dtype=torch.float64), torch.eye(36, dtype=torch.float64))
    save_scorer(NiqeScorer(model), tmp_path / "niqe.safetensors")
    images = torch.rand(1, 3, 192, 192)
    scorer = make_scorer(f"niqe:{tmp_path}/niqe.safetensors", (), ())
    assert torch.equal(scorer.score(images), NiqeScorer(model).score(images))
    save_scorer(DomainScorer(RainNet()), tmp_path / "domain.safetensors")
    with pytest.raises(UserError, match="holds the score domain"):
        make_scorer(f"niqe:{tmp_path}/domain.safetensors", (), ())


def test_finite_looks_at_numbers_and_not_at_their_sum_in_half_precision():
    images = torch.full((3, 3, 480, 320), 0.5, dtype=torch.float16)
    images[1, 0, 0, 0] = torch.nan
    images[2, 2, 5, 5] = torch.inf
    assert finite(images).tolist() == [True, False, False]


@pytest.mark.parametrize("device", ["meta", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_a_saved_scorer_is_loaded_to_where_the_images_are(tmp_path, device):
    save_scorer(DomainScorer(RainNet()), tmp_path / "scorer.safetensors")
    scores = score(torch.rand(2, 3, 33, 40, device=device), tmp_path / "scorer.safetensors")
    assert scores.device.type == device


def test_a_file_that_is_no_scorer_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_scorer(tmp_path / "missing.safetensors")
    (tmp_path / "broken.safetensors").write_text("not safetensors")
    with pytest.raises(UserError, match=r"broken\.safetensors holds no fitted scorer"):
        load_scorer(tmp_path / "broken.safetensors")
    with pytest.raises(UserError, match="scorer domain must be fitted first"):
        score(torch.rand(1, 3, 32, 32), "domain")


def test_any_state_is_saved_however_its_numbers_lie(tmp_path):
    cov = torch.randn(36, 36)
    model = NiqeModel(torch.randn(72)[::2], (cov @ cov.T).t())  # strided, and in Fortran order as NumPy's files have it
    scorer = NiqeScorer(model)
    save_scorer(scorer, tmp_path / "scorer.safetensors")
    again = load_scorer(tmp_path / "scorer.safetensors").state()
    assert all(torch.equal(again[name], value) for name, value in scorer.state().items())

    shared = SimpleNamespace(name="shared", state=lambda: {"a": cov, "b": cov[:3]})
    save_scorer(shared, tmp_path / "shared.safetensors")
    with pytest.raises(UserError, match=r"state of the score shared cannot be saved"):
        check_saves(SimpleNamespace(name="shared", state=lambda: {"a": 1.0}))
