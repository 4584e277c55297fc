"""CycleGAN: its step is the formula written out, and each term reaches the networks that it should."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from steps import L1_REWARDS

from rgsud_fast.config import Config
from rgsud_fast.methods import cyclegan
from rgsud_fast.methods.build import build_networks
from rgsud_fast.networks import Discriminator
from rgsud_fast.networks.translators import Translator

TINY = {"width": 4, "blocks": 1, "judge_width": 4, "residual": True}


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_networks_have_the_published_numbers_of_parameters():
    with torch.device("meta"):
        assert count(Translator()) == 11_378_179
        assert count(Translator(blocks=6)) == 7_837_699
        assert count(Discriminator(high_pass=False, antialias=True)) == 2_764_737
        assert count(Translator(16, 3, False, True)) == 272_515
        assert count(Discriminator(16)) == 175_857


@pytest.fixture
def setting():
    config = Config(preset="small", method="cyclegan", cyclegan=TINY, loss=L1_REWARDS, seed=3)
    nets = build_networks(config, torch.device("cpu"), None, cyclegan)
    torch.manual_seed(0)
    names = ("rainy", "clean", "reals", "clean_reals", "rewards")
    inputs = {name: torch.rand(2, 3, 40, 40) for name in names} | {"improved": torch.tensor([True, False])}
    return config, nets, inputs


@pytest.mark.parametrize("stage", [1, 2])
def test_the_step_is_its_formula(setting, stage):
    config, nets, inputs = setting
    if stage == 1:
        del inputs["rewards"], inputs["improved"]
    got = cyclegan.step(nets, stage, inputs, config)
    g, f, d_c, d_r = nets
    o, b = inputs["rainy"], inputs["clean"]
    adversarial = (d_c(g(o)) - 1).square().mean() + (d_r(f(b)) - 1).square().mean()
    cycle = (f(g(o)) - o).abs().mean() + (g(f(b)) - b).abs().mean()
    identity = (g(b) - b).abs().mean() + (f(o) - o).abs().mean()
    wanted = adversarial + 4 * cycle + 2 * identity
    if stage == 2:
        wanted = wanted + 4 * (g(o) - inputs["rewards"])[0].abs().mean()
        wanted = wanted + 4 * (f(inputs["rewards"]) - o)[0].abs().mean()
    torch.testing.assert_close(got.loss, wanted)
    torch.testing.assert_close(got.judged["clean_judge"].fake, g(o))
    torch.testing.assert_close(got.judged["rainy_judge"].fake, f(b))


def test_each_judge_learns_from_its_own_domain(setting):
    config, nets, inputs = setting
    judged = cyclegan.step(nets, 1, inputs, config).judged
    losses = cyclegan.judge(nets, judged, config)
    for name, real in (("clean_judge", "clean_reals"), ("rainy_judge", "reals")):
        network, fake = getattr(nets, name), judged[name].fake.detach()
        on_real, on_fake = network(inputs[real]), network(fake)
        torch.testing.assert_close(losses[name], (on_real - 1).square().mean() / 2 + on_fake.square().mean() / 2)
    sum(losses.values()).backward()
    assert all(p.grad is None for net in nets[:2] for p in net.parameters())


def test_terms_vanish_where_both_translators_are_the_identity(setting):
    config, nets, inputs = setting
    same = nets._replace(derainer=torch.nn.Identity(), painter=torch.nn.Identity())
    terms = cyclegan.step(same, 1, inputs, config).terms
    assert terms["cycle"] == terms["identity"] == 0


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_a_translator_keeps_any_size(antialias, residual):
    network = Translator(4, 2, antialias, residual)
    assert network(torch.rand(1, 3, 33, 46)).shape == (1, 3, 33, 46)
    assert Translator(**network.sizes).sizes == network.sizes


def test_a_residual_translator_without_last_weights_is_the_identity():
    network = Translator(4, 1, residual=True)
    torch.nn.init.zeros_(network.last.weight)
    image = torch.rand(1, 3, 35, 34)
    torch.testing.assert_close(network(image), image)


def test_bilinear_doubling_is_the_transpose_of_the_blur():
    x = torch.rand(1, 1, 6, 7, dtype=torch.float64)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
    kernel = (taps[:, None] * taps / 16)[None, None]
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    doubled = F.conv_transpose2d(padded, kernel, stride=2)[..., 3:-3, 3:-3]
    torch.testing.assert_close(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), doubled)
