"""Pasted pairs: what is laid on clean images, which networks learn from it, and that the generator may be left out."""

from __future__ import annotations

import pytest
import torch

from rgsud_fast.config import LossConfig
from rgsud_fast.methods.pasting import Pasted, derain, paste, pasted_terms, rain_light
from rgsud_fast.methods.rgsud import Networks, stage1, without_generator
from rgsud_fast.networks import Discriminator, NAFNet, RainGenerator, UNet
from rgsud_fast.ops import derain_loss


@pytest.fixture
def nets():
    made = Networks(NAFNet(4, (1,), 1, (1,)), UNet(4, 2), RainGenerator(4, 1), Discriminator(4))
    for net in made:
        for parameter in net.parameters():
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    return made


def pairs(count=2):
    clean, rain = torch.rand(count, 3, 32, 32), torch.rand(count, 1, 32, 32)
    return Pasted((clean + 0.3 * rain).clamp(max=1), clean)


def test_what_is_pasted_is_grey_bright_and_clamped():
    clean, rainy, reward = torch.rand(3, 2, 3, 8, 9)
    gain = torch.tensor([0.5, 2.0])[:, None, None, None]
    light = rain_light(rainy, reward)
    assert light.shape == (2, 1, 8, 9) and light.min() == 0
    got = paste(clean, rainy, reward, gain)
    expected = (clean + gain * ((rainy - reward).sum(1, keepdim=True) / 3).clamp(min=0)).clamp(max=1)
    torch.testing.assert_close(got, expected)
    assert torch.equal(paste(clean, rainy, rainy), clean)  # without a reward nothing is laid


def test_pasted_pairs_are_one_more_term_and_change_no_other(nets):
    rainy, clean, pasted = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32), pairs()
    plain = stage1(nets, rainy, clean, LossConfig())
    both = stage1(nets, rainy, clean, LossConfig(pasted=2.0), pasted)
    for name, term in plain.terms.items():
        torch.testing.assert_close(both.terms[name], term)
    psnr, ssim = derain_loss(nets.derainer(pasted.rainy), pasted.clean)
    torch.testing.assert_close(both.terms["pasted_psnr"], psnr)
    torch.testing.assert_close(both.loss, plain.loss + 2 * (psnr + ssim))


@pytest.mark.parametrize("floor", [1e-8, 1e-4])
def test_the_floor_is_that_of_the_logarithm_and_of_nothing_else(floor):
    pasted = pairs()
    derained = (pasted.clean + 0.1 * torch.rand_like(pasted.clean)).requires_grad_()
    terms = pasted_terms(derained, pasted, floor)
    mse = (derained - pasted.clean).square().mean((1, 2, 3))
    torch.testing.assert_close(terms["pasted_psnr"], 10 * torch.log10(mse + floor).mean())
    torch.testing.assert_close(terms["pasted_ssim"], derain_loss(derained, pasted.clean)[1])


@pytest.mark.parametrize("floor, heard", [(1e-8, False), (1e-4, True)])
def test_with_the_floor_crops_without_rain_do_not_drown_the_others(floor, heard):
    """One crop has rain and three have none; all derained alike, by a hair off and a little of the rain away."""
    clean, rain = torch.full((4, 3, 32, 32), 0.4), torch.zeros(4, 1, 32, 32)
    rain[0, :, :, ::8] = 0.3
    take = torch.zeros(4, 1, 1, 1, requires_grad=True)  # share of the rain that is taken away; of none a hair of light
    derained = clean + rain * (1 - take) + (rain.sum((2, 3), keepdim=True) == 0) * (1e-3 + 0.01 * take)
    v_take = torch.autograd.grad(pasted_terms(derained, Pasted(clean + rain, clean), floor)["pasted_psnr"], take)[0]
    assert (v_take.sum() < 0) == heard  # downhill is to take more rain away


def test_without_a_generator_the_derainer_alone_learns(nets):
    weights, pasted = LossConfig(adversarial=0, pair=0, pasted=1), pairs()
    step = without_generator(nets, weights, pasted)
    assert step.terms.keys() == {"pasted_psnr", "pasted_ssim"} and len(step.fakes) == 0
    step.loss.backward()
    assert all(parameter.grad is not None for parameter in nets.derainer.parameters())
    assert all(parameter.grad is None for net in nets[1:] for parameter in net.parameters())


@pytest.mark.parametrize("weight", [0.0, 0.8])
def test_in_stage_2_rewards_are_targets_too(nets, weight):
    weights, pasted = LossConfig(adversarial=0, pair=0, pasted=1, reward=weight, reward_form="mean"), pairs()
    rainy, reward = torch.rand(2, 2, 3, 32, 32)
    step = without_generator(nets, weights, pasted, rainy, reward, torch.tensor([True, False]))
    assert ("reward" in step.terms) == bool(weight)
    if weight:
        torch.testing.assert_close(step.terms["reward"], (nets.derainer(rainy[:1]) - reward[:1]).square().mean())


def test_batches_of_any_number_are_derained_in_one_call():
    calls = []
    a, b = torch.rand(2, 3, 4, 4), torch.rand(1, 3, 4, 4)
    got = derain(lambda images: calls.append(len(images)) or images * 2, a, b)
    assert calls == [3] and torch.equal(got[0], 2 * a) and torch.equal(got[1], 2 * b)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"adversarial": 0, "pair": 0}, "nothing is learned"),
        ({"adversarial": 0, "pair": 0, "pasted": 1, "self_reconstruction": 1}, "there is no generator to train"),
        ({"pasted_gain": (1.3, 0.7)}, "the smaller first"),
        ({"pasted_share": 0}, "greater than 0"),
    ],
)
def test_weights_that_teach_nothing_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(**wrong)
