"""Places of like content are those of a brute-force search, and the contrast of two kinds is its formula."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from rgsud_fast.methods.non_local import near_places, places_in, supervised_contrast


def brute_force(image, top, left, patch, reach, count):
    """The same by comparing patch with patch."""
    _, height, width = image.shape
    wanted = image[:, top : top + patch, left : left + patch]
    found = []
    for y in range(max(top - reach, 0), min(top + reach, height - patch) + 1):
        for x in range(max(left - reach, 0), min(left + reach, width - patch) + 1):
            distance = (image[:, y : y + patch, x : x + patch] - wanted).square().sum().item()
            found.append((distance, (y + patch // 2) * width + x + patch // 2))
    return [place for _, place in sorted(found)[:count]]


@pytest.mark.parametrize("top, left", [(0, 0), (9, 12), (20, 31), (0, 31), (3, 17), (20, 0)])
@pytest.mark.parametrize("channels", [3, 8])
def test_places_are_those_of_a_brute_force_search(channels, top, left):
    image = torch.rand(3, channels, 25, 36)
    corner = torch.tensor(top * (36 - 5 + 1) + left)
    got = near_places(image, corner, 5, 6, 40)
    assert got.shape == (3, 40) and got.dtype == torch.int64
    for each, places in zip(image, got, strict=True):
        assert places.tolist() == brute_force(each, top, left, 5, 6, 40)
        assert places[0] == (top + 2) * 36 + left + 2  # the patch itself


def test_an_even_patch_and_published_sizes():
    image = torch.rand(1, 4, 70, 66)
    got = near_places(image, torch.tensor(30 * 51 + 25), 16, 20, 256)
    assert set(got[0].tolist()) == set(brute_force(image[0], 30, 25, 16, 20, 256))  # in float32 two may change places


def test_places_fall_on_the_same_spot_of_smaller_layers():
    layers = [torch.rand(1, 1, *size) for size in ((12, 20), (6, 10), (5, 9))]
    whole, half, odd = places_in(layers, torch.tensor([[0, 7 * 20 + 19]]), 12, 20)
    assert whole.tolist() == [[0, 159]]
    assert half.tolist() == [[0, 3 * 10 + 9]]
    assert odd.tolist() == [[0, 2 * 9 + 8]]


def test_the_contrast_of_two_kinds_is_its_formula():
    one, other = (F.normalize(torch.randn(2, size, 5, dtype=torch.float64), dim=2) for size in (3, 4))
    parts = []
    for image in range(2):
        vectors = torch.cat([one[image], other[image]])
        for i in range(7):
            alike = [j for j in range(7) if j != i and (j < 3) == (i < 3)]
            all_others = torch.stack([vectors[i] @ vectors[j] / 0.1 for j in range(7) if j != i]).logsumexp(0)
            parts.append(sum(all_others - vectors[i] @ vectors[j] / 0.1 for j in alike) / len(alike))
    got = supervised_contrast(one, other, 0.1)
    torch.testing.assert_close(got, (sum(parts) / len(parts)).float(), rtol=1e-5, atol=1e-5)


def test_the_contrast_of_perfectly_separated_kinds():
    one, other = torch.zeros(2, 1, 8, 4), torch.zeros(2, 1, 128, 4)
    one[..., 0], other[..., 0] = 1, -1
    got = supervised_contrast(one[0], other[0], 0.07)
    assert got.item() == pytest.approx((8 * math.log(7) + 128 * math.log(127)) / 136, abs=1e-4)
    assert got.item() == pytest.approx(4.6737, abs=1e-4)


def test_each_image_is_contrasted_by_itself():
    one, other = (F.normalize(torch.randn(3, size, 5), dim=2) for size in (4, 6))
    each = [supervised_contrast(one[i : i + 1], other[i : i + 1], 0.2) for i in range(3)]
    torch.testing.assert_close(supervised_contrast(one, other, 0.2), sum(each) / 3)
