"""CUT: patches against each other, the step's formula, and which networks learn from what."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from steps import L1_REWARDS
from tiny import darkness, run_of

from rgsud_fast.config import Config
from rgsud_fast.data.sampler import draw_places
from rgsud_fast.errors import UserError
from rgsud_fast.methods import cut
from rgsud_fast.methods.build import build_networks
from rgsud_fast.networks.projector import Projector
from rgsud_fast.training import train

TINY = {"width": 4, "blocks": 2, "judge_width": 4, "projector": 8, "patches": 8}


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_projectors_have_the_published_numbers_of_parameters():
    with torch.device("meta"):
        assert count(Projector([3, 128, 256, 256, 256])) == 560_384
        assert count(Projector([3, 32, 64, 64, 64], 64)) == 35_648


def test_patch_nce_is_the_published_masked_form():
    torch.manual_seed(0)
    q, k = (F.normalize(torch.randn(2, 9, 5), dim=2) for _ in range(2))
    temperature = 0.07
    positive = (q * k).sum(2, keepdim=True)
    negatives = (q @ k.transpose(1, 2)).masked_fill(torch.eye(9, dtype=torch.bool), -10.0)
    logits = torch.cat([positive, negatives], dim=2).flatten(0, 1) / temperature
    wanted = F.cross_entropy(logits, torch.zeros(18, dtype=torch.int64))
    torch.testing.assert_close(cut.patch_nce(q, k, temperature), wanted)


def test_negatives_stay_in_their_image():
    torch.manual_seed(0)
    q, k = (F.normalize(torch.randn(3, 9, 5), dim=2) for _ in range(2))
    each = [cut.patch_nce(q[i : i + 1], k[i : i + 1], 0.1) for i in range(3)]
    torch.testing.assert_close(cut.patch_nce(q, k, 0.1), sum(each) / 3)


@pytest.fixture
def setting():
    config = Config(preset="small", method="cut", cut=TINY, loss=L1_REWARDS, crop=36, seed=3)
    nets = build_networks(config, torch.device("cpu"), None, cut)
    torch.manual_seed(0)
    inputs = {name: torch.rand(2, 3, 36, 36) for name in ("rainy", "clean", "clean_reals")}
    for name, (places, bounds) in cut.draws(config).items():
        inputs[name] = draw_places(0, 0, places, bounds)
    return config, nets, inputs


def test_the_step_is_its_formula(setting):
    config, nets, inputs = setting
    step = cut.step(nets, 1, inputs, config)
    g, project, judge = nets
    o, b = inputs["rainy"], inputs["clean"]

    def nce(x, y):
        queries = project(g.features(y), inputs["places"])
        keys = [key.detach() for key in project(g.features(x), inputs["places"])]
        parts = []
        for q, k in zip(queries, keys, strict=True):
            for image in range(2):
                for i in range(q.shape[1]):
                    logits = (k[image] @ q[image, i]) / 0.07
                    parts.append(torch.logsumexp(logits, 0) - logits[i])
        return sum(parts) / len(parts)

    wanted = (judge(g(o)) - 1).square().mean() + (nce(o, g(o)) + nce(b, g(b))) / 2
    torch.testing.assert_close(step.loss, wanted, rtol=1e-4, atol=1e-5)


def test_every_trained_network_is_reached(setting):
    config, nets, inputs = setting
    cut.step(nets, 1, inputs, config).loss.backward()
    for net in (nets.derainer, nets.projector):
        assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in net.parameters() if p.ndim > 1)


def test_places_are_distinct_and_a_function_of_seed_and_step():
    places = draw_places(5, 7, 20, [400, 25])
    assert places.shape == (2, 20) and places.dtype == torch.int64
    assert all(len(set(row)) == 20 for row in places.tolist()) and int(places[1].max()) < 25
    assert torch.equal(places, draw_places(5, 7, 20, [400, 25]))
    assert not torch.equal(places, draw_places(5, 8, 20, [400, 25]))
    with pytest.raises(ValueError, match="20 distinct places below 9"):
        draw_places(5, 7, 20, [9])


def mirrored_setting(setting, mirrored):
    config, nets, inputs = setting
    config.cut.mirror = True
    flips = {"mirrored": torch.tensor([[mirrored]])}
    return config, nets, inputs | flips


def test_fastcut_mirrors_its_input_and_the_features_back(setting):
    config, nets, inputs = mirrored_setting(setting, 1)
    g, project, judge = nets
    o, b = inputs["rainy"], inputs["clean"]
    mirrored_o, mirrored_b = g(o.flip(3)), g(b.flip(3))

    def nce(x, y):
        queries = project([layer.flip(3) for layer in g.features(y)], inputs["places"])
        keys = project(g.features(x), inputs["places"])
        return sum(cut.patch_nce(q, k, 0.07) for q, k in zip(queries, keys, strict=True)) / len(keys)

    wanted = (judge(mirrored_o) - 1).square().mean() + (nce(o, mirrored_o) + nce(b, mirrored_b)) / 2
    step = cut.step(nets, 1, inputs, config)
    torch.testing.assert_close(step.loss, wanted, rtol=1e-4, atol=1e-5)
    known = {"rewards": torch.rand_like(o), "improved": torch.tensor([True, False])}
    reward = cut.step(nets, 2, inputs | known, config).terms["reward"]
    torch.testing.assert_close(reward, (mirrored_o.flip(3)[0] - known["rewards"][0]).abs().mean())


def test_fastcut_is_cut_in_the_other_half_of_the_steps(setting):
    plain = cut.step(setting[1], 1, setting[2], setting[0]).loss
    config, nets, inputs = mirrored_setting(setting, 0)
    assert torch.equal(cut.step(nets, 1, inputs, config).loss, plain)
    count, bounds = cut.draws(config)["mirrored"]
    first = len(cut.draws(config)["places"][1])
    drawn = torch.cat([draw_places(0, step, count, bounds, first) for step in range(60)])
    assert drawn.shape == (60, 1) and 15 < int(drawn.sum()) < 45


def test_crops_that_the_translator_pads_are_not_mirrored():
    config = Config(preset="small", method="cut", cut=TINY | {"mirror": True}, crop=38)
    with pytest.raises(UserError, match=r"cut\.mirror needs a crop of a multiple of 4, got 38"):
        build_networks(config, torch.device("cpu"), None, cut)


def test_a_run_of_fastcut_trains_and_places_stay_those_of_cut(config):
    fields = run_of(config, "cut", cut=TINY | {"mirror": True, "contrast": 10.0, "contrast_identity": 0.0})
    result = train(fields, scorer=darkness, quiet=True)
    lines = [row for row in map(json.loads, (result.run_dir / "metrics.jsonl").open()) if row["event"] == "train"]
    assert lines and all("contrast" in row and "contrast_identity" not in row for row in lines)
