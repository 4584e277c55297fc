"""A sweep fills the pool with what the derainer makes, and its guards keep gamed scores out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sweeps import CPU, PAPER, Darken
from torch import nn

from rgsud_fast.config import RewardConfig
from rgsud_fast.data import FolderSet, RainStyle, render_rain, to_batch
from rgsud_fast.data.image_files import quantise
from rgsud_fast.iqa import DomainScorer, make_scorer
from rgsud_fast.iqa.domain import RainNet
from rgsud_fast.ops import removed_layer
from rgsud_fast.rewards.first import first_reward, oriented_layer
from rgsud_fast.rewards.pool import RewardPool
from rgsud_fast.rewards.sweep import OUTCOMES, candidate, judge, offer_first, sweep, verdict


def test_a_sweep_fills_the_pool_and_a_better_derainer_replaces_the_entries(rainy, darkness):
    pool = RewardPool(rainy.sizes)
    derainer = Darken(0.95).train()
    first = sweep(derainer, rainy, range(3), darkness, pool, CPU, PAPER)[0]
    assert (first.images, first.entered, first.refused) == (3, 3, 0)
    assert derainer.training
    worse = sweep(Darken(0.99), rainy, range(3), darkness, pool, CPU, PAPER)[0]
    better = sweep(Darken(0.9), rainy, [2, 0], darkness, pool, CPU, PAPER)[0]
    assert (worse.entered, better.entered) == (0, 2)
    assert worse.mean_score == first.mean_score < better.mean_score
    expected = (torch.from_numpy(rainy[1].copy()).float() * 0.95).round()
    assert (pool.best(1)[0].float() - expected).abs().max() <= 1


def test_scores_do_not_depend_on_the_other_images(rainy, darkness):
    alone, together = RewardPool(rainy.sizes), RewardPool(rainy.sizes)
    sweep(Darken(0.9), rainy, [1], darkness, alone, CPU, PAPER)
    sweep(Darken(0.9), rainy, [0, 1, 2], darkness, together, CPU, PAPER)
    assert torch.equal(alone.scores[1], together.scores[1])


def outcomes_of(candidates, rainy, score=None, **guards):
    score = torch.zeros(len(candidates)) if score is None else score
    layer = removed_layer(rainy.expand(len(candidates), -1, -1, -1), candidates)
    places = verdict(layer, score, RewardConfig(**guards))
    return [OUTCOMES[place] for place in places.tolist()]


def test_each_guard_gives_its_reason():
    rainy = torch.rand(1, 3, 64, 64) * 0.5
    damaged = rainy * 0.9
    damaged[0, 0, 3, 3] = torch.nan
    candidates = [rainy * 0.9, rainy + 0.4, torch.full_like(rainy, 0.25), damaged, rainy * 0.9, rainy]
    candidates, score = torch.cat(candidates), torch.tensor([1.0, 1.0, 1.0, 1.0, torch.inf, 1.0])
    expected = ["no better", "another picture", "blank", "not finite", "not scored", "nothing removed"]
    assert outcomes_of(candidates, rainy, score) == expected


def test_a_layer_that_is_not_like_rain_may_be_refused():
    rainy = 0.2 + 0.5 * torch.rand(1, 3, 64, 64)
    streaks = torch.zeros(1, 1, 64, 64)
    streaks[..., ::9] = 0.1
    grey, coloured, darker = (
        rainy - streaks,
        rainy - streaks * torch.tensor([1.0, 0, 0])[:, None, None],
        rainy + streaks,
    )
    candidates = torch.cat([grey, coloured, darker])
    assert outcomes_of(candidates, rainy) == ["no better"] * 3
    assert outcomes_of(candidates, rainy, implausible=1.0) == ["no better", "not like rain", "not like rain"]


def test_a_candidate_may_be_the_mean_with_the_mirrored_image():
    class Leaning(nn.Module):
        def __init__(self):
            super().__init__()
            self.shade = nn.Parameter(torch.linspace(-0.1, 0.1, 40))

        def forward(self, image):
            return image + self.shade

    rainy = 0.4 + 0.2 * torch.rand(1, 3, 32, 40)
    plain, mirrored = (candidate(Leaning(), rainy, RewardConfig(mirror=mirror))[0] for mirror in (False, True))
    assert (plain - rainy).abs().max() > 0.05
    torch.testing.assert_close(mirrored, rainy)


@pytest.mark.parametrize("change, reason", [(0.05, "nothing removed"), (float("inf"), "not finite")])
def test_what_projection_and_clamping_would_hide_is_refused(darkness, change, reason):
    class Brighten(nn.Module):
        def __init__(self):
            super().__init__()
            self.change = nn.Parameter(torch.zeros(1, 1, 32, 40))
            self.change.data[..., 5, 5:] = change

        def forward(self, image):
            return image + self.change

    rainy = 0.4 + 0.2 * torch.rand(1, 3, 32, 40)
    judged = judge(Brighten(), rainy, darkness, RewardConfig(grey_layer=True, mirror=True))
    assert OUTCOMES[int(judged.outcome)] == reason
    assert judged.score.isnan()


def test_a_grey_layer_is_grey_and_nowhere_negative():
    class Tint(nn.Module):
        def __init__(self):
            super().__init__()
            self.noise = nn.Parameter(0.1 * torch.randn(1, 3, 32, 40))

        def forward(self, image):
            return image + self.noise

    rainy = 0.4 + 0.2 * torch.rand(1, 3, 32, 40)
    layer = rainy - candidate(Tint(), rainy, RewardConfig(grey_layer=True))[0]
    assert layer.min() >= 0
    assert layer.max() > 0.05
    assert (layer.max(dim=1).values - layer.min(dim=1).values).max() < 1e-6


def test_old_versions_may_be_dropped_decay_or_be_scored_anew(rainy):
    brightness = make_scorer(lambda images: images.mean(dim=(1, 2, 3)), rainy, rainy)
    darkness = make_scorer(lambda images: -images.mean(dim=(1, 2, 3)), rainy, rainy)
    pools = {name: RewardPool(rainy.sizes, keep=2) for name in ("plain", "evict", "decay", "rescore")}
    options = {"evict": {"evict": True}, "decay": {"decay": 0.5}, "rescore": {"rescore": True}}
    for name, pool in pools.items():
        reward = RewardConfig(fidelity=0.5, **options.get(name, {}))
        sweep(Darken(0.8), rainy, range(3), brightness, pool, CPU, reward)
        sweep(Darken(0.9), rainy, range(3), darkness if name == "rescore" else brightness, pool, CPU, reward)
    assert torch.isfinite(pools["plain"].scores).all()
    assert torch.isfinite(pools["evict"].scores).sum(dim=1).tolist() == [1, 1, 1]
    old = [pools[name].scores.min(dim=1).values for name in ("plain", "decay")]
    torch.testing.assert_close(old[0] - old[1], torch.full((3,), 0.5))
    assert (pools["rescore"].scores < 0).all()


def test_a_judged_candidate_is_what_enters(rainy, darkness):
    pool = RewardPool(rainy.sizes)
    image = torch.from_numpy(rainy[0].copy()).permute(2, 0, 1)[None].float() / 255
    judged = judge(Darken(0.9).eval(), image, darkness, PAPER)
    sweep(Darken(0.9), rainy, [0], darkness, pool, CPU, PAPER)
    stored, score = pool.best(0)
    assert torch.equal(stored, (judged.image[0] * 255).round().byte().permute(1, 2, 0))
    assert score == judged.score[0]


def test_refused_images_never_enter(rainy, darkness):
    pool = RewardPool(rainy.sizes)
    result = sweep(Darken(0.0), rainy, range(3), darkness, pool, CPU, PAPER)[0]  # black: the best score of all
    assert (result.entered, result.refused, result.reasons) == (0, 3, {"blank": 3})
    assert not pool.filled.any()


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["domain", "niqe"])
def test_on_a_gpu_the_host_waits_once_at_the_end(name):
    """No synchronisation while images are derained, judged and offered; the first sweep compiles and fills caches."""
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (240, 320, 3), dtype=np.uint8) for _ in range(8)]
    images = FolderSet.from_arrays([str(i) for i in range(8)], arrays)
    device = torch.device("cuda")
    scorer = make_scorer(name, images, images, device=device)
    pool, derainer = RewardPool(images.sizes, device=device), Darken(0.9).to(device)
    reward = RewardConfig(mirror=True, grey_layer=True)
    sweep(derainer, images, range(8), scorer, pool, device, reward)
    batches = [to_batch(image, device) for image in arrays]
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for index, batch in enumerate(batches):
            judged = judge(derainer.eval(), batch, scorer, reward)
            pool.update([index], judged.image, judged.score)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("grey_layer", [False, True])
def test_the_domain_score_of_a_candidate_is_that_of_the_image_beside_its_photograph(rainy, grey_layer):
    torch.manual_seed(0)
    scorer, image = DomainScorer(RainNet()), to_batch(rainy[0])
    judged = judge(Darken(0.9).eval(), image, scorer, RewardConfig(grey_layer=grey_layer))
    torch.testing.assert_close(judged.score, scorer.score(judged.image, rainy=image), rtol=0, atol=1e-4)


def streaks(height=64, width=80):
    """A photograph with steep streaks on smooth ground, [1, 3, H, W], and their light."""
    scene = to_batch(np.full((height, width, 3), 90, np.uint8))
    rain = to_batch(
        render_rain(np.zeros((height, width, 3), np.uint8), RainStyle(8, length=30, brightness=0.5), seed=2)
    )
    return (scene + rain).clamp(max=1), rain


class Fixed(nn.Module):
    """A derainer that takes away a fixed layer."""

    def __init__(self, layer):
        super().__init__()
        self.register_buffer("layer", layer)

    def forward(self, image):
        return image - self.layer


def test_a_candidate_keeps_away_what_the_first_reward_does_where_the_derainer_sees_rain_too():
    rainy, rain = streaks()
    first = oriented_layer(rainy)
    assert first.mean() > 0.5 * rain.mean() and first.mean() > 0.01
    reward = RewardConfig(first="oriented", grey_layer=True)
    timid, _ = candidate(Fixed(0.6 * rain).eval(), rainy, reward)
    torch.testing.assert_close(timid, torch.minimum(rainy - 0.6 * rain, rainy - first).clamp(0, 1), rtol=0, atol=0.02)
    idle, layer = candidate(Fixed(0 * rain).eval(), rainy, reward)
    assert torch.equal(idle, first_reward(rainy))  # it has learned nothing yet: what is pasted must not vanish
    torch.testing.assert_close(layer.removed, first.mean()[None], rtol=1e-4, atol=0)
    left = rain * (torch.arange(80) < 40)  # it sees rain on the left alone, and enough of it
    half, _ = candidate(Fixed(left).eval(), rainy, reward)
    assert torch.equal(half[..., 45:], rainy[..., 45:]) and (rainy - half)[..., :40].mean() > 0.01
    bold, _ = candidate(Fixed(rain).eval(), rainy, reward)
    assert (rainy - bold).mean() >= rain.mean() * 0.99
    plain, _ = candidate(Fixed(0.6 * rain).eval(), rainy, RewardConfig(grey_layer=True))
    assert (rainy - timid).mean() > (rainy - plain).mean()


@pytest.mark.parametrize("first", ["filter", "oriented", "fills"])
def test_a_first_reward_goes_through_the_guards_and_the_score(first):
    rainy, _ = streaks()
    scorer = make_scorer(lambda images: images.mean(dim=(1, 2, 3)), (), ())
    pool, reward = RewardPool([(64, 80)] * 2), RewardConfig(first=first)
    assert OUTCOMES[offer_first(rainy, 0, scorer, pool, reward)] == "entered"
    assert torch.equal(pool.best(0)[0].permute(2, 0, 1), quantise(first_reward(rainy, first)[0]))
    still = torch.full_like(rainy, 0.4) + 0.1 * torch.rand(1, 3, 1, 1)
    still[..., :32, :] += 0.2
    assert OUTCOMES[offer_first(still, 1, scorer, pool, reward)] == "nothing removed"
    assert OUTCOMES[offer_first(rainy, 1, scorer, pool, RewardConfig(first=first, fidelity=1e-6))] == "another picture"
    assert pool.filled.tolist() == [True, False]


@pytest.mark.parametrize("first", ["filter", "oriented", "fills"])
@pytest.mark.parametrize("stored, outcome", [(-1.0, "entered"), (9.0, "no better")])
def test_a_first_reward_never_lowers_a_stored_score(first, stored, outcome):
    rainy, _ = streaks()
    scorer = make_scorer(lambda images: images.mean(dim=(1, 2, 3)), (), ())
    pool = RewardPool([(64, 80)], keep=2)
    pool.update([0, 0], torch.cat([rainy, rainy]), torch.full((2,), stored))
    before = pool.scores.sort(1).values.clone()
    assert OUTCOMES[offer_first(rainy, 0, scorer, pool, RewardConfig(first=first))] == outcome
    assert bool((pool.scores.sort(1).values >= before).all()) and float(pool.scores.max()) >= stored


@pytest.mark.parametrize("first, keeps", [("none", False), ("filter", False), ("oriented", True), ("fills", True)])
def test_first_rewards_inside_an_oriented_mask_keep_later_candidates_from_fading(first, keeps):
    rainy, rain = streaks()
    idle, _ = candidate(Fixed(0 * rain).eval(), rainy, RewardConfig(first=first))
    assert bool((idle < rainy - 1e-3).any()) == keeps


@pytest.mark.parametrize("newest", [False, True])
def test_the_newest_candidate_may_take_the_place_of_better_ones(rainy, newest):
    scorer = make_scorer(lambda images: images.mean(dim=(1, 2, 3)), (), ())  # brighter is better
    pool, reward = RewardPool(rainy.sizes), RewardConfig(newest=newest, fidelity=9.0)
    for factor in (0.9, 0.5):
        done, _ = sweep(Darken(factor).eval(), rainy, [0], scorer, pool, torch.device("cpu"), reward)
    assert done.entered == int(newest)
    nothing, _ = sweep(nn.Identity().eval(), rainy, [0], scorer, pool, torch.device("cpu"), reward)
    assert nothing.refused == 1 and bool(pool.filled[0])  # a candidate that is refused leaves the older one
