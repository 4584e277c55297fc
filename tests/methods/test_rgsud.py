"""One iteration: what depends on what, and that both stages are the spec's formulas."""

from __future__ import annotations

import pytest
import torch

from rgsud_fast.config import LossConfig
from rgsud_fast.config.parts import PARTS
from rgsud_fast.methods import losses
from rgsud_fast.methods.rgsud import JUDGES, TOGETHER, Networks, discriminator_loss, stage1, stage2
from rgsud_fast.networks import Discriminator, NAFNet, RainGenerator, UNet
from rgsud_fast.networks.known import KINDS
from rgsud_fast.ops import derain_loss

SIZES = {"derainer": {"width": 4, "encoder": [1], "middle": 1, "decoder": [1]}}
ALL = LossConfig(channel_consistency=10, background_guidance=1, self_reconstruction=1)


@pytest.fixture
def nets():
    torch.manual_seed(0)
    made = Networks(NAFNet(4, (1,), 1, (1,)), UNet(4, 2), RainGenerator(4, 1), Discriminator(4))
    for net in made:  # away from their near-identity start, so that every path carries a gradient
        for parameter in net.parameters():
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    made.discriminator.requires_grad_(False)
    return made


@pytest.fixture
def images():
    return [torch.rand(2, 3, 32, 32) for _ in range(3)]


def gradients(nets, loss):
    for net in nets:
        net.zero_grad()
    loss.backward()
    return [[0 if p.grad is None else p.grad.abs().sum().item() for p in net.parameters()] for net in nets]


def paint(nets, clean, rain):
    """G(clean, rain)."""
    return nets.generator(torch.cat([clean, rain], 1))


def test_stage1_is_the_sum_of_the_formulas(nets, images):
    rainy, clean, _ = images
    weights = LossConfig(pair=0.5)
    step = stage1(nets, rainy, clean, weights)

    rain = rainy - nets.unet(rainy)
    pseudo_rainy = paint(nets, clean, rain)
    pseudo_derained, derained = nets.derainer(pseudo_rainy), nets.derainer(rainy)
    pseudo_rain = pseudo_rainy - nets.unet(pseudo_rainy)
    fakes = [pseudo_rainy, paint(nets, derained, rain), paint(nets, derained, pseudo_rain)]
    fakes.append(paint(nets, pseudo_derained, pseudo_rain))
    adversarial = sum(losses.lsgan(nets.discriminator(fake), 1.0) for fake in fakes)
    pair = sum(derain_loss(pseudo_derained, clean))
    torch.testing.assert_close(step.fakes, torch.cat(fakes))
    torch.testing.assert_close(step.loss, adversarial + 0.5 * pair)


def test_every_network_but_the_frozen_one_learns_in_stage1(nets, images):
    derainer, unet, generator, discriminator = gradients(nets, stage1(nets, *images[:2], ALL).loss)
    assert all(derainer) and all(unet) and all(generator)
    assert not any(discriminator)


def test_pair_loss_does_not_reach_the_generator(nets, images):
    terms = stage1(nets, *images[:2], LossConfig()).terms
    derainer, unet, generator, _ = gradients(nets, terms["pair_psnr"] + terms["pair_ssim"])
    assert all(derainer)
    assert not any(unet) and not any(generator)


def test_adversarial_loss_reaches_the_derainer_through_both_its_outputs(nets, images):
    derainer, unet, generator, _ = gradients(nets, stage1(nets, *images[:2], LossConfig()).terms["adversarial"])
    assert all(derainer) and all(unet) and all(generator)


def test_stage2_without_rewards_is_stage1(nets, images):
    rainy, clean, reward = images
    first = stage1(nets, rainy, clean, ALL)
    second = stage2(nets, rainy, clean, reward, torch.tensor([False, False]), ALL)
    torch.testing.assert_close(second.loss, first.loss)
    torch.testing.assert_close(second.fakes, first.fakes)


def test_stage2_is_the_sum_of_the_formulas(nets, images):
    rainy, clean, reward = images
    step = stage2(nets, rainy, clean, reward, torch.tensor([True, True]), LossConfig())

    rain = rainy - reward
    pseudo_rainy = paint(nets, clean, rain)
    pseudo_derained, derained = nets.derainer(pseudo_rainy), nets.derainer(rainy)
    pseudo_rain = pseudo_rainy - pseudo_derained
    fakes = [pseudo_rainy, paint(nets, derained, rain), paint(nets, derained, pseudo_rain)]
    fakes.append(paint(nets, pseudo_derained, pseudo_rain))
    adversarial = sum(losses.lsgan(nets.discriminator(fake), 1.0) for fake in fakes)
    pair = sum(derain_loss(pseudo_derained, clean))
    expected = adversarial + pair + 0.8 * derain_loss(derained, reward)[0]
    torch.testing.assert_close(step.loss, expected)


def test_unet_learns_in_stage2_only_through_images_without_a_reward(nets, images):
    everything = stage2(nets, *images, torch.tensor([True, True]), ALL)
    assert not any(gradients(nets, everything.loss)[1])
    half = stage2(nets, *images, torch.tensor([True, False]), ALL)
    assert all(gradients(nets, half.loss)[1])


def test_the_switch_and_the_reward_loss_are_independent(nets, images):
    accepted = torch.tensor([True, True])
    unswitched = stage2(nets, *images, accepted, LossConfig(), switch=False)
    torch.testing.assert_close(unswitched.fakes, stage1(nets, *images[:2], LossConfig()).fakes)
    assert "reward" in unswitched.terms
    assert "reward" not in stage2(nets, *images, accepted, LossConfig(reward=0)).terms


def test_pool_equal_to_the_rainy_image_gives_no_rain(nets, images):
    rainy, clean, _ = images
    step = stage2(nets, rainy, clean, rainy, torch.tensor([True, True]), LossConfig())
    torch.testing.assert_close(step.fakes[:2], paint(nets, clean, torch.zeros_like(clean)))


@pytest.mark.parametrize("shown", [2, 8])
def test_discriminator_learns_alone_and_from_the_fakes_it_is_shown(nets, images, shown):
    rainy, clean, _ = images
    fakes = stage1(nets, rainy, clean, LossConfig()).fakes
    nets.discriminator.requires_grad_(True)
    loss = discriminator_loss(nets, rainy, fakes[:shown])
    expected = 0.5 * (losses.lsgan(nets.discriminator(rainy), 1) + losses.lsgan(nets.discriminator(fakes[:shown]), 0))
    torch.testing.assert_close(loss, expected)
    derainer, unet, generator, discriminator = gradients(nets, loss)
    # A bias before an instance normalisation has no effect, so its gradient may be zero.
    assert sum(discriminator) > 0
    assert not any(derainer) and not any(unet) and not any(generator)


def test_files_figures_and_the_command_line_know_the_networks_of_the_method_by_name():
    assert Networks._fields == tuple(PARTS["rgsud"]) == tuple(KINDS)[:4]
    assert set(TOGETHER) | set(JUDGES) == set(Networks._fields) and not set(TOGETHER) & set(JUDGES)
    for name in Networks._fields:
        kind = KINDS[name]
        part, network = PARTS["rgsud"][name], kind(**SIZES.get(name, {"width": 4}))
        with torch.no_grad():
            made = network(torch.zeros(1, part.channels, 64, 64))
        assert made.shape[0] == 1 and part.gives
