"""Tiling: nothing is lost, nothing shows."""

from __future__ import annotations

import itertools

import pytest
import torch

from rgsud_fast.tiles import feather, run_tiled, spans


@pytest.mark.parametrize("length, tile, overlap", [(10, 32, 4), (33, 32, 4), (100, 32, 8), (97, 17, 16), (64, 32, 0)])
def test_tiles_cover_the_image_and_weights_sum_to_one(length, tile, overlap):
    pieces = spans(length, tile, overlap)
    assert pieces[0][0] == 0
    assert pieces[-1][1] == length
    assert all(end - start == min(tile, length) for start, end in pieces)
    assert all(before[1] - after[0] >= overlap for before, after in itertools.pairwise(pieces))
    weights = feather(pieces, length)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(0), torch.ones(length, dtype=torch.float64), atol=1e-12, rtol=0)
    for (start, end), weight in zip(pieces, weights, strict=True):
        assert (weight[:start] == 0).all()
        assert (weight[end:] == 0).all()


@pytest.mark.parametrize("size", [(33, 70), (20, 64), (65, 31)], ids=str)
def test_a_pointwise_network_gives_the_same_in_tiles(size):
    image = torch.rand(1, 3, *size)
    torch.testing.assert_close(run_tiled(lambda x: x * 2 + 1, image, tile=24, overlap=7), image * 2 + 1)


def test_a_local_network_gives_the_same_away_from_seams_and_nearly_on_them():
    torch.manual_seed(0)
    blur = torch.nn.Conv2d(3, 3, 5, padding=2, padding_mode="reflect")
    image = torch.rand(1, 3, 50, 60)
    with torch.no_grad():
        tiled = run_tiled(blur, image, tile=32, overlap=16)
        assert (tiled - blur(image)).abs().max() < 0.15 * blur(image).abs().max()
        torch.testing.assert_close(tiled[..., :8, :8], blur(image)[..., :8, :8])


def test_an_image_that_fits_is_done_in_one_call():
    calls = []

    def network(x):
        calls.append(x.shape)
        return x

    image = torch.rand(1, 3, 32, 20)
    assert run_tiled(network, image, tile=32, overlap=8) is image
    run_tiled(network, torch.rand(1, 3, 99, 99), tile=0, overlap=8)
    assert [tuple(c[-2:]) for c in calls] == [(32, 20), (99, 99)]


def test_other_channel_counts_pass():
    both = torch.rand(1, 6, 40, 40)
    out = run_tiled(lambda x: x[:, :3] + x[:, 3:], both, tile=16, overlap=4)
    torch.testing.assert_close(out, both[:, :3] + both[:, 3:])


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"image must be \[1, C, H, W\]"):
        run_tiled(torch.sin, torch.rand(2, 3, 8, 8))
    with pytest.raises(ValueError, match="overlap must be"):
        run_tiled(torch.sin, torch.rand(1, 3, 8, 8), tile=8, overlap=8)
