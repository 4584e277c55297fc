"""The networks have the paper's sizes and do what their layer tables say."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rgsud_fast.networks import Derainer, Discriminator, RainGenerator, UNet, init_fan_in


def name_of(network: nn.Module) -> str:
    return type(network).__name__


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    "network, count", [(Derainer, 29_159_715), (UNet, 2_270_499), (RainGenerator, 545_283), (Discriminator, 2_767_809)]
)
def test_default_sizes_are_the_papers(network, count):
    with torch.device("meta"):
        assert parameters(network()) == count


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 50)], ids=str)
def test_images_keep_their_size(size):
    image = torch.rand(2, 3, *size)
    assert Derainer(4, (1, 1, 1), 1, (1, 1, 1))(image).shape == image.shape
    assert UNet(4, 3)(image).shape == image.shape
    assert RainGenerator(4, 1)(image, image).shape == image.shape


def test_sizes_build_the_same_network_again():
    for network in (Derainer(4, (1, 2), 1, (2, 1)), UNet(4, 2), RainGenerator(4, 2), Discriminator(4)):
        again = type(network)(**network.sizes)
        assert {k: v.shape for k, v in again.state_dict().items()} == {
            k: v.shape for k, v in network.state_dict().items()
        }


def test_discriminator_judges_patches():
    assert Discriminator(2)(torch.rand(1, 3, 256, 256)).shape == (1, 1, 30, 30)


@pytest.mark.parametrize("network", [Derainer(4, (1,), 1, (1,)), UNet(4, 2), RainGenerator(4, 1)], ids=name_of)
def test_networks_add_to_their_input(network):
    nn.init.zeros_(network.last.weight)
    nn.init.zeros_(network.last.bias)
    image, rain = torch.rand(2, 1, 3, 33, 35)
    added = network(image, rain) if isinstance(network, RainGenerator) else network(image)
    assert torch.equal(added, image)


def test_generator_block_adds_after_both_activations():
    torch.manual_seed(0)
    block = RainGenerator(3, 1).blocks[0]
    x = torch.randn(1, 3, 8, 8)
    inner = F.leaky_relu(F.conv2d(x, block.conv1.weight, block.conv1.bias, padding=1), 0.2)
    inner = F.leaky_relu(F.conv2d(inner, block.conv2.weight, block.conv2.bias, padding=1), 0.2)
    assert torch.equal(block(x), x + inner)


@pytest.mark.parametrize("network", [Derainer(2, (1,), 1, (1,)), UNet(2, 2), Discriminator(2)], ids=name_of)
def test_a_wrong_input_is_named(network):
    with pytest.raises(ValueError, match=r"image must be \[N, 3, H, W\].*\[1, 4, 32, 32\]"):
        network(torch.rand(1, 4, 32, 32))


def test_gan_networks_are_drawn_from_a_narrow_normal():
    torch.manual_seed(0)
    for network in (UNet(), RainGenerator(), Discriminator()):
        weights = torch.cat([m.weight.flatten() for m in network.modules() if isinstance(m, nn.Conv2d)])
        biases = [m.bias for m in network.modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
        assert abs(weights.std() - 0.02) < 1e-3
        assert all((bias == 0).all() for bias in biases)


@pytest.mark.parametrize("width", [8, 64])
def test_fan_in_initialisation_lets_the_signal_pass_at_any_width(width):
    torch.manual_seed(0)
    generator, image = RainGenerator(width, 3), torch.rand(2, 3, 32, 32)
    init_fan_in(generator)
    painted = (generator(image, image) - image).std()
    assert 0.02 < painted < 1


def test_fan_in_initialisation_paints_no_grid():
    torch.manual_seed(0)
    unet = UNet(8, 2)
    init_fan_in(unet)
    for module in unet.modules():
        if isinstance(module, nn.ConvTranspose2d):
            assert (module.weight == module.weight[:, :, :1, :1]).all()
