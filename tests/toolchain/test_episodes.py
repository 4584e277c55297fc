"""Damage and episodes: pure functions of the seed and their number."""

import numpy as np
import pytest
import torch
from boxes import patches

from rgsud_fast.config.toolbox import SEVERITIES, DamageConfig, ToolConfig
from rgsud_fast.toolchain import episodes as module
from rgsud_fast.toolchain.damage import blur, damage, jpeg
from rgsud_fast.toolchain.episodes import SUMS, Episodes, levels, stack, to_floats, tool_batch

RNG = np.random.default_rng(0)
PHOTOGRAPHS = [RNG.integers(0, 256, (100, 130, 3), dtype=np.uint8) for _ in range(3)]
KINDS = {"blur": 1.5, "noise": 20, "jpeg": 20, "streaks": 0.4, "drops": 0.2, "night": 0.7}


@pytest.mark.parametrize("rain", [False, True], ids=["camera", "rain"])
def test_an_episode_depends_on_its_number_alone(rain):
    one = Episodes(PHOTOGRAPHS, 5, 32, DamageConfig(rain=rain))
    damaged, clean = one.batch(range(6))
    again = one.batch([4, 1])
    assert torch.equal(again[0], damaged[[4, 1]]) and torch.equal(again[1], clean[[4, 1]])
    assert not torch.equal(one.of("held out").batch([4])[0], damaged[4:5])
    assert not torch.equal(Episodes(PHOTOGRAPHS, 6, 32, one.config).batch([4])[0], damaged[4:5])
    assert damaged.shape == (6, 3, 32, 32) and damaged.min() >= 0 and damaged.max() <= 1
    assert not torch.equal(one.batch([2], "severe")[0], damaged[2:3])


def test_turned_patches_show_all_eight_directions_and_other_streams_stay():
    ramp = np.zeros((64, 64, 3), np.uint8) + np.arange(0, 128, 2, dtype=np.uint8)[:, None, None]
    ramp = ramp + np.arange(64, dtype=np.uint8)[None, :, None]  # twice as steep downwards as to the right
    plain, turned = (Episodes([ramp], 5, 32, DamageConfig(severity="all"), turns=turns) for turns in (False, True))

    def directions(episodes):
        _, clean = episodes.batch(range(60))
        down, right = clean[:, 0, -1, 0] - clean[:, 0, 0, 0], clean[:, 0, 0, -1] - clean[:, 0, 0, 0]
        return {(d > 0, r > 0, abs(d) > abs(r)) for d, r in zip(down.tolist(), right.tolist(), strict=True)}

    assert len(directions(plain)) == 2 and len(directions(turned)) == 8
    again = turned.batch([7, 3])
    assert all(torch.equal(one, other[[7, 3]]) for one, other in zip(again, turned.batch(range(8)), strict=True))
    assert turned.of("held out").turns and not plain.of("held out").turns


def test_that_share_of_clean_patches_is_seen_in_another_light_and_damage_comes_after_it():
    grey = [np.full((64, 64, 3), 128, np.uint8)]
    plain, varied = (Episodes(grey, 5, 32, DamageConfig(severity="all"), jitter=share) for share in (0.0, 0.25))
    (_, clean), (damaged, other) = plain.batch(range(200)), varied.batch(range(200))
    assert (clean == clean[0, 0, 0, 0]).all()
    levels_of = other.mean((2, 3))
    moved = (levels_of - 128 / 255).abs().amax(1) > 1e-6
    assert 0.15 < moved.float().mean() < 0.35
    light = levels_of[moved] / (128 / 255)
    assert 0.05 < light.min() < 0.25 and 0.6 < light.mean(1).max() < 1.3 and other.max() <= 1
    assert (damaged[moved].mean((1, 2, 3)) - levels_of[moved].mean(1)).abs().max() < 0.1  # of the same light
    assert torch.equal(varied.batch([7])[1], other[7:8]) and varied.of("looks").jitter == 0.25


def test_that_share_of_patches_has_the_noise_of_a_good_photograph_and_nothing_else():
    smooth = [(patches(1, 64)[0] * 255).byte().permute(1, 2, 0).numpy()]
    plain, varied = (Episodes(smooth, 5, 32, DamageConfig(rain=True, severity="all"), undamaged=s) for s in (0.0, 0.2))
    errors = [(a - b).square().mean((1, 2, 3)) for a, b in (plain.batch(range(200)), varied.batch(range(200)))]
    good = errors[1] < 10**-3.5  # 35 dB
    assert (errors[0] < 10**-3.5).float().mean() < 0.05 and 0.1 < good.float().mean() < 0.35
    assert (errors[1][good] > 0).all()
    assert torch.equal(varied.batch([7])[0], varied.batch(range(8))[0][7:]) and varied.of("looks").undamaged == 0.2


def test_another_light_has_the_exposure_and_the_gamma_it_says():
    image = np.stack([np.full((8, 8, 3), level, np.float32) for level in (0.2, 0.4)])
    gammas, exposures, tints = [], [], []
    for seed in range(300):
        low, high = (module.other_light(one, np.random.default_rng(seed))[0, 0] for one in image)
        gammas.append(np.log(high / low) / np.log(2))
        light = high / 0.4 ** gammas[-1]
        exposures.append(np.exp(np.log(light).mean()))
        tints.append(np.log(light).std())
    assert np.allclose(np.ptp(gammas, axis=1), 0, atol=1e-4)  # of all colours alike
    assert 1 <= np.min(gammas) < 1.05 and 1.75 < np.max(gammas) <= 1.8
    assert 0.15 < np.min(exposures) < 0.25 and 0.9 < np.max(exposures) < 1.3 and 0.05 < np.mean(tints) < 0.12


def test_severities_take_turns_where_all_are_asked_for():
    every = Episodes(PHOTOGRAPHS, 5, 32, DamageConfig(severity="all"))
    damaged, clean = every.batch(range(5))
    for number, severity in zip(range(5), [*SEVERITIES, *SEVERITIES[:2]], strict=True):
        one = every.batch([number], severity)
        assert torch.equal(one[0], damaged[number : number + 1]) and torch.equal(one[1], clean[number : number + 1])


@pytest.mark.parametrize("severity", SEVERITIES)
def test_every_triple_of_levels_comes_once(severity):
    low, high = SUMS[severity]
    assert len(set(levels(severity))) == len(levels(severity))
    assert all(low <= sum(triple) - 2 <= high for triple in levels(severity))


@pytest.mark.parametrize("kind", KINDS)
def test_damage_stays_in_range_and_leaves_its_input(kind):
    image = RNG.random((40, 33, 3), dtype=np.float32)
    before = image.copy()
    made = damage(image, kind, KINDS[kind], np.random.default_rng(1))
    assert np.array_equal(image, before) and made.shape == image.shape and made.dtype == np.float32
    assert made.min() >= 0 and made.max() <= 1 and np.abs(made - image).mean() > 0.002
    assert np.array_equal(made, damage(image, kind, KINDS[kind], np.random.default_rng(1)))


def test_blur_is_a_gaussian_with_borders_repeated():
    cv2 = pytest.importorskip("cv2")
    image = RNG.random((40, 33, 3), dtype=np.float32)
    expected = cv2.GaussianBlur(image, (21, 21), 2.3, borderType=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(blur(image, 2.3), expected, atol=1e-6)
    assert blur(image, 0) is image


def test_jpeg_of_quality_100_still_halves_the_colours():
    image = RNG.random((16, 16, 3), dtype=np.float32)
    assert np.abs(jpeg(image, 100) - image).mean() > 0.01


def test_bytes_are_divided_once_and_floats_never():
    assert to_floats(np.full((1, 1, 3), 255, np.uint8)).max() == 1
    assert to_floats(np.full((1, 1, 3), 0.5, np.float32)).max() == 0.5
    white = stack([np.full((2, 2, 3), 255, np.uint8), np.ones((2, 2, 3), np.float32)])
    assert torch.equal(white, torch.ones(2, 3, 2, 2))


def test_patches_that_are_nearly_untouched_are_drawn_again(monkeypatch):
    calls = []

    def untouched_first(clean, *rest):
        calls.append(1)
        return clean if len(calls) < 3 else clean * 0.5

    monkeypatch.setattr(module, "_camera", untouched_first)
    damaged, clean = Episodes(PHOTOGRAPHS, 0, 32, DamageConfig()).batch([0])
    assert len(calls) == 3 and torch.equal(damaged, clean * 0.5)


def test_a_tools_patches_hold_slight_noise_besides_its_own_damage():
    flat = [np.full((100, 100, 3), 128, np.uint8)]
    tool = ToolConfig(name="a", damage="blur", low=1, high=2)
    damaged, clean = tool_batch(flat, 0, tool, 0, range(8), 32)
    assert torch.equal(clean, torch.full_like(clean, 128 / 255))
    assert (damaged - clean).abs().mean() > 1e-3  # which blur of a flat patch has none of
    assert torch.equal(tool_batch(flat, 0, tool, 0, [5], 32)[0], damaged[5:6])
    assert patches(1).shape == (1, 3, 32, 32)


def test_idle_patches_have_anothers_damage_which_is_to_stay():
    flat = [np.full((100, 100, 3), 128, np.uint8)]
    night = ToolConfig(name="night", damage="night", low=0.9, high=1)
    streaks = ToolConfig(name="streaks", damage="streaks", low=0.2, high=0.4)
    damaged, kept = tool_batch(flat, 0, night, 0, range(40), 32, idle=0.5, others=[streaks])
    busy = (damaged - kept).abs().mean((1, 2, 3)) > 0.1
    assert 10 < int(busy.sum()) < 30
    assert torch.equal(kept[busy], torch.full_like(kept[busy], 128 / 255))  # a night is to become day
    assert (kept[~busy].amax((1, 2, 3)) > 0.6).float().mean() > 0.7  # streaks are another tool's
    damaged, alone = tool_batch(flat, 0, night, 0, range(40), 32, idle=0.5)
    assert torch.equal(alone, torch.full_like(alone, 128 / 255))
    assert torch.equal((damaged - alone).abs().mean((1, 2, 3)) > 0.1, busy)  # with no other tool an idle patch has none
