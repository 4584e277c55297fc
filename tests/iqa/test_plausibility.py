"""The penalties on a removed layer that is no rain."""

from __future__ import annotations

import torch

from rgsud_fast.iqa.plausibility import Plausibility
from rgsud_fast.ops.reward_candidate import box_mean


def test_each_term_matches_its_formula():
    rainy, derained = torch.rand(2, 3, 24, 31), torch.rand(2, 3, 24, 31)
    layer = rainy - derained
    red, green, blue = layer[:, 0], layer[:, 1], layer[:, 2]
    spread = ((red - green).abs() + (green - blue).abs() + (blue - red).abs()).mean((1, 2))
    low = box_mean(layer).abs().mean((1, 2, 3))
    negative = (-layer).clamp(min=0).mean((1, 2, 3))
    for term, weights, expected in (
        ("spread", Plausibility(1, 0, 0), spread),
        ("low_frequency", Plausibility(0, 1, 0), low),
        ("negative", Plausibility(0, 0, 1), negative),
        ("all", Plausibility(), 50 * spread + 50 * low + 200 * negative),
    ):
        torch.testing.assert_close(weights.penalty(rainy, derained), expected, msg=lambda m, t=term: f"{t}: {m}")


def test_removing_nothing_is_free_and_removing_thin_grey_light_is_cheap():
    background = torch.rand(1, 3, 60, 60) * 0.5
    streaks = torch.zeros(1, 1, 60, 60)
    streaks[..., ::20] = 0.3
    rainy = background + streaks
    penalty = Plausibility().penalty
    assert penalty(rainy, rainy).item() == 0
    right = penalty(rainy, background).item()
    for wrong in (background + 0.05, background * 0.8, background * torch.tensor([1.2, 1, 0.8])[:, None, None]):
        assert penalty(rainy, wrong).item() > 2 * right


def test_each_image_is_judged_by_itself():
    rainy, derained = torch.rand(3, 3, 20, 20), torch.rand(3, 3, 20, 20)
    derained[1] = torch.nan
    penalty = Plausibility().penalty(rainy, derained)
    assert penalty.isfinite().tolist() == [True, False, True]


def test_penalty_with_gradient_is_the_penalty():
    torch.manual_seed(0)
    rainy, derained = torch.rand(2, 3, 20, 24), torch.rand(2, 3, 20, 24, requires_grad=True)
    penalty = Plausibility().differentiable(rainy, derained)
    torch.testing.assert_close(penalty, Plausibility().penalty(rainy, derained.detach()))
    penalty.sum().backward()
    assert derained.grad is not None and derained.grad.abs().min() > 0
