"""The penalties on a removed layer that is no rain."""

from __future__ import annotations

import pytest
import torch

from rgsud_fast.iqa.plausibility import Plausibility, box_mean


def naive_box(image: torch.Tensor, half: int = 7) -> torch.Tensor:
    out = torch.empty_like(image)
    for i in range(image.shape[2]):
        for j in range(image.shape[3]):
            window = image[:, :, max(i - half, 0) : i + half + 1, max(j - half, 0) : j + half + 1]
            out[:, :, i, j] = window.mean((2, 3))
    return out


@pytest.mark.parametrize("size", [(1, 1), (9, 20), (31, 33)], ids=str)
def test_box_mean_averages_over_the_part_of_the_window_inside(size):
    image = torch.rand(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(box_mean(image), naive_box(image), rtol=0, atol=1e-12)


def test_each_term_matches_its_formula():
    rainy, derained = torch.rand(2, 3, 24, 31), torch.rand(2, 3, 24, 31)
    layer = rainy - derained
    red, green, blue = layer[:, 0], layer[:, 1], layer[:, 2]
    spread = ((red - green).abs() + (green - blue).abs() + (blue - red).abs()).mean((1, 2))
    low = naive_box(layer).abs().mean((1, 2, 3))
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
