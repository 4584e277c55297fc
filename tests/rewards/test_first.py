"""First rewards: bright streaks of a photograph's own direction go, and nothing else does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rgsud_fast.data import RainStyle, load_demo, render_rain, to_batch
from rgsud_fast.iqa.metrics import fixed_filter, psnr
from rgsud_fast.rewards.first import KINDS, _exchanges, _row_median, fill, first_reward, oriented_layer


def smooth(height=96, width=128):
    """A scene without streaks: slow waves of colour."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 17 + c) * np.cos(y / 23 - c) for c in range(3)]
    return np.rint(127 + 60 * np.stack(waves, 2)).astype(np.uint8)


def test_a_scene_without_streaks_keeps_everything():
    scene = to_batch(smooth())
    assert oriented_layer(scene).max() == 0
    assert torch.equal(first_reward(scene), scene)


@pytest.mark.parametrize("angle", [-38, -17, 0, 8, 29, 44])
def test_streaks_of_any_direction_go_and_the_scene_stays(angle):
    style = RainStyle(angle, length=40, width=2.4, density=0.04, brightness=0.35, layers=1)
    clean = smooth()
    rainy = render_rain(clean, style, seed=3)
    truth, wet = to_batch(clean), to_batch(rainy)
    layer, rain = oriented_layer(wet), (wet - truth).mean(1, keepdim=True)
    assert layer.shape == (1, 1, 96, 128) and layer.min() == 0
    assert (layer * rain).sum() / (layer.norm() * rain.norm()) > 0.8
    assert psnr(first_reward(wet), truth) > psnr(wet, truth) + 3


def test_photographs_come_about_as_near_to_the_truth_as_by_the_fixed_filter_and_on_average_nearer():
    gains = []
    for pair in load_demo().val:
        rainy, clean = to_batch(pair.rainy), to_batch(pair.clean)
        gains.append(float(psnr(first_reward(rainy), clean) - psnr(fixed_filter(rainy), clean)))
    assert min(gains) > -0.3 and sum(gains) > 0


def test_each_image_is_looked_at_alone_and_nothing_is_written_into_it():
    rng = np.random.default_rng(0)
    scenes = [render_rain(smooth(), RainStyle(angle, density=0.05), seed=1) for angle in (-30, 20)]
    batch = torch.cat([to_batch(scene) for scene in scenes])
    before = batch.clone()
    together = oriented_layer(batch)
    assert torch.equal(together, torch.cat([oriented_layer(batch[i : i + 1]) for i in (0, 1)]))
    assert torch.equal(batch, before)
    assert oriented_layer(torch.from_numpy(rng.random((1, 3, 17, 17)))).dtype == torch.float64


@pytest.mark.parametrize("shape", [(1, 3, 7, 20), (1, 3, 20, 7), (3, 20, 20), (1, 1, 20, 20)], ids=str)
def test_what_is_no_photograph_is_refused(shape):
    with pytest.raises(ValueError, match="of 8 pixels at least"):
        oriented_layer(torch.rand(shape))
    assert oriented_layer(torch.rand(1, 3, 8, 8)).shape == (1, 1, 8, 8)


@pytest.mark.parametrize("reach, stride", [(1, 1), (2, 1), (4, 1), (4, 2), (8, 1), (3, 3)])
def test_the_network_of_exchanges_is_the_median(reach, stride):
    image, border = torch.randn(9, 40), reach * stride
    mirrored = torch.cat([image[:, :border].flip(1), image, image[:, -border:].flip(1)], 1)
    windows = mirrored.unfold(1, 2 * border + 1, 1)[..., ::stride]
    assert torch.equal(_row_median(image, reach, stride), windows.median(-1).values)
    assert len(_exchanges(9)) < 28


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_nearer_to_the_truth_and_brightens_nothing(kind):
    style = RainStyle(12, length=40, width=2.4, density=0.04, brightness=0.35, layers=1)
    clean = smooth()
    rainy, truth = to_batch(render_rain(clean, style, seed=3)), to_batch(clean)
    first = first_reward(rainy, kind)
    assert first.shape == rainy.shape and bool((first <= rainy).all())
    assert psnr(first, truth) > psnr(rainy, truth) + 3
    with pytest.raises(ValueError, match="kind must be one of oriented, fills, filter, got 'none'"):
        first_reward(rainy, "none")


def test_fills_are_the_medians_of_what_is_open_around():
    rng = torch.Generator().manual_seed(1)
    rainy = torch.rand(2, 3, 13, 17, generator=rng)
    mask = torch.rand(2, 1, 13, 17, generator=rng) < 0.3
    mask[0, :, :9, :9] = True  # around its corner nothing is open
    otherwise = torch.rand(2, 3, 13, 17, generator=rng)
    filled = fill(rainy, mask, otherwise)
    assert torch.equal(filled[~mask.expand_as(filled)], rainy[~mask.expand_as(filled)])
    for n, _, top, left in mask.nonzero().tolist():
        rows, columns = slice(max(top - 4, 0), top + 5), slice(max(left - 4, 0), left + 5)
        around = rainy[n, :, rows, columns][:, ~mask[n, 0, rows, columns]]
        wanted = around.median(1).values if around.numel() else otherwise[n, :, top, left]
        assert torch.equal(filled[n, :, top, left], torch.minimum(wanted, rainy[n, :, top, left]))
    assert not torch.equal(filled[0, :, 0, 0], rainy[0, :, 0, 0]), "it has what it is given for that"


def test_many_random_fills_tend_to_the_fill():
    rng = torch.Generator().manual_seed(1)
    rainy = torch.rand(1, 3, 9, 9, generator=rng)
    mask = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    mask[..., 3:6, 4] = True
    choices = rainy[0, :, ~mask[0, 0]][:, torch.randint(78, (20_001,), generator=rng)]
    wanted = torch.minimum(choices.median(1).values, rainy[0, :, 4, 4])
    torch.testing.assert_close(fill(rainy, mask, rainy)[0, :, 4, 4], wanted, rtol=0, atol=0.02)
