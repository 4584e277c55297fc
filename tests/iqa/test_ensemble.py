"""The ensemble: ranks among known photographs, their mean, and its state."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rgsud_fast.errors import UserError
from rgsud_fast.iqa import CallableScorer, EnsembleScorer, fit_ensemble, load_scorer, make_scorer, save_scorer
from rgsud_fast.iqa.ensemble import rank

PHOTOGRAPHS = [np.full((40, 40, 3), level, np.uint8) for level in (0, 51, 102, 204, 255)]


def brightness(images):
    return images.mean((1, 2, 3))


def twice_as_dark(images):
    return -2 * images.mean((1, 2, 3))


def test_ranks_go_from_one_photograph_to_the_next_and_beyond_them():
    reference = torch.tensor([0.0, 1.0, 3.0])
    got = rank(torch.tensor([-3.0, 0.0, 0.5, 1.0, 2.0, 3.0, 6.0, torch.nan]), reference)
    expected = torch.tensor([-1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0, torch.nan])
    torch.testing.assert_close(got, expected, equal_nan=True)


def test_a_better_image_never_ranks_lower():
    reference = torch.randn(20).unique()
    scores = torch.randn(200).sort().values * 2
    assert (rank(scores, reference).diff() >= 0).all()


def test_is_the_mean_of_the_members_ranks():
    members = [CallableScorer(brightness), CallableScorer(twice_as_dark)]
    scorer = fit_ensemble(members, [PHOTOGRAPHS])
    assert scorer.name == "ensemble:[brightness,twice_as_dark]"
    grey = torch.full((2, 3, 8, 8), 0.4)
    grey[1] = torch.nan
    scores = scorer.score(grey)
    assert scores[0] == pytest.approx((0.5 + 0.5) / 2)
    assert scores[1].isnan()


def test_no_member_rules_by_its_scale():
    louder = CallableScorer(lambda images: 1000 * images.mean((1, 2, 3)))
    quiet = [
        fit_ensemble([CallableScorer(brightness), other], [PHOTOGRAPHS])
        for other in (CallableScorer(brightness), louder)
    ]
    images = torch.rand(3, 3, 8, 8)
    torch.testing.assert_close(quiet[0].score(images), quiet[1].score(images))


def test_a_member_that_tells_nothing_apart_is_named():
    constant = CallableScorer(lambda images: torch.ones(len(images)))
    constant.name = "constant"
    with pytest.raises(UserError, match="constant tells the 5 photographs not apart"):
        fit_ensemble([CallableScorer(brightness), constant], [PHOTOGRAPHS])


def test_is_made_by_name_and_restored_from_its_file(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (8, 110, 110, 3)).astype(np.float32)
    smooth = (base + np.roll(base, 1, 1) + np.roll(base, 1, 2)) / 3
    photographs = [image.astype(np.uint8) for image in [*smooth, *base]]
    scorer = make_scorer("ensemble:[domain,domain]", photographs[:8], photographs[8:])
    assert isinstance(scorer, EnsembleScorer)
    save_scorer(scorer, tmp_path / "scorer.safetensors")
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(load_scorer(tmp_path / "scorer.safetensors").score(images), scorer.score(images))


@pytest.mark.parametrize(
    "name", ["ensemble", "ensemble:[domain]", "ensemble:domain,niqe", "ensemble:[domain,ensemble:[a,b]]"]
)
def test_other_spellings_are_refused(name):
    with pytest.raises(UserError, match="ensemble needs two scores or more"):
        make_scorer(name, PHOTOGRAPHS, PHOTOGRAPHS)
