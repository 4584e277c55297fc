"""The networks have the paper's sizes and do what their layer tables say."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rgsud_fast.networks import Discriminator, NAFNet, RainGenerator, UNet, init_fan_in
from rgsud_fast.networks.derainers.nafnet import NAFBlock
from rgsud_fast.ops import high_pass


def name_of(network: nn.Module) -> str:
    return type(network).__name__


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def drawn(network: nn.Module) -> nn.Module:
    """The same network in float64 with every parameter drawn at random, so that each one shows in the output."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.0, 0.5)
    return network.double()


@pytest.mark.parametrize(
    "network, count", [(NAFNet, 29_159_715), (UNet, 2_270_499), (RainGenerator, 545_283), (Discriminator, 2_767_809)]
)
def test_default_sizes_are_the_papers(network, count):
    with torch.device("meta"):
        assert parameters(network()) == count


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 50)], ids=str)
def test_images_keep_their_size(size):
    image = torch.rand(2, 3, *size)
    assert NAFNet(4, (1, 1, 1), 1, (1, 1, 1))(image).shape == image.shape
    assert UNet(4, 3)(image).shape == image.shape
    assert RainGenerator(4, 1)(torch.cat([image, image], 1)).shape == image.shape


def test_sizes_build_the_same_network_again():
    for network in (NAFNet(4, (1, 2), 1, (2, 1)), UNet(4, 2), RainGenerator(4, 2), Discriminator(4)):
        again = type(network)(**network.sizes)
        assert {k: v.shape for k, v in again.state_dict().items()} == {
            k: v.shape for k, v in network.state_dict().items()
        }


def test_discriminator_judges_patches():
    assert Discriminator(2)(torch.rand(1, 3, 256, 256)).shape == (1, 1, 30, 30)


@pytest.mark.parametrize("network", [NAFNet(4, (1,), 1, (1,)), UNet(4, 2), RainGenerator(4, 1)], ids=name_of)
def test_networks_add_to_their_input(network):
    nn.init.zeros_(network.last.weight)
    nn.init.zeros_(network.last.bias)
    image, rain = torch.rand(2, 1, 3, 33, 35)
    added = network(torch.cat([image, rain], 1) if isinstance(network, RainGenerator) else image)
    assert torch.equal(added, image)


def test_generator_block_adds_after_both_activations():
    torch.manual_seed(0)
    block, x = drawn(RainGenerator(3, 1).blocks[0]), torch.randn(1, 3, 8, 8, dtype=torch.float64)
    inner = F.leaky_relu(F.conv2d(x, block.conv1.weight, block.conv1.bias, padding=1), 0.2)
    inner = F.leaky_relu(F.conv2d(inner, block.conv2.weight, block.conv2.bias, padding=1), 0.2)
    torch.testing.assert_close(block(x), x + inner)


def test_naf_block_follows_its_layer_table():
    block, x = drawn(NAFBlock(4)), torch.randn(2, 4, 6, 7, dtype=torch.float64)

    def normalised(x, norm):
        return F.layer_norm(x.permute(0, 2, 3, 1), (4,), norm.weight, norm.bias, 1e-6).permute(0, 3, 1, 2)

    u = F.conv2d(normalised(x, block.norm1), block.expand1.weight, block.expand1.bias)
    u = F.conv2d(u, block.depthwise.weight, block.depthwise.bias, padding=1, groups=8)
    u = u[:, :4] * u[:, 4:]
    u = u * F.conv2d(u.mean((2, 3), keepdim=True), block.attention.weight, block.attention.bias)
    y = x + block.beta * F.conv2d(u, block.project1.weight, block.project1.bias)
    v = F.conv2d(normalised(y, block.norm2), block.expand2.weight, block.expand2.bias)
    v = F.conv2d(v[:, :4] * v[:, 4:], block.project2.weight, block.project2.bias)
    torch.testing.assert_close(block(x), y + block.gamma * v)


def test_naf_block_starts_as_the_identity():
    block, x = NAFBlock(4), torch.randn(1, 4, 5, 5)
    assert block.beta.shape == block.gamma.shape == (1, 4, 1, 1)
    assert not block.beta.any()
    assert not block.gamma.any()
    assert torch.equal(block(x), x)


def test_derainer_adds_its_skips_on_the_way_up():
    network, image = drawn(NAFNet(2, (1, 1), 1, (1, 1))), torch.rand(1, 3, 8, 12, dtype=torch.float64)
    x0 = network.encoder[0](F.conv2d(image, network.first.weight, network.first.bias, padding=1))
    x1 = network.encoder[1](F.conv2d(x0, network.downs[0].weight, network.downs[0].bias, stride=2))
    x = network.middle(F.conv2d(x1, network.downs[1].weight, network.downs[1].bias, stride=2))
    x = network.decoder[0](F.pixel_shuffle(F.conv2d(x, network.ups[0][0].weight), 2) + x1)
    x = network.decoder[1](F.pixel_shuffle(F.conv2d(x, network.ups[1][0].weight), 2) + x0)
    wanted = F.conv2d(x, network.last.weight, network.last.bias, padding=1) + image
    torch.testing.assert_close(network(image), wanted)


def test_unet_follows_its_layer_table():
    network, image = drawn(UNet(2, 3)), torch.rand(2, 3, 8, 12, dtype=torch.float64)

    def two_convs(x, layers):
        for conv in layers:
            x = F.leaky_relu(F.conv2d(x, conv.weight, conv.bias, padding=1), 0.2)
        return x

    def joined(below, skip, up):
        return torch.cat([F.conv_transpose2d(below, up.weight, up.bias, stride=2), skip], 1)

    x0 = two_convs(image, network.levels[0])
    x1 = two_convs(F.conv2d(x0, network.downs[0].weight, stride=2, padding=1), network.levels[1])
    x2 = two_convs(F.conv2d(x1, network.downs[1].weight, stride=2, padding=1), network.levels[2])
    x = two_convs(joined(x2, x1, network.ups[0]), network.merges[0])
    x = two_convs(joined(x, x0, network.ups[1]), network.merges[1])
    wanted = F.conv2d(x, network.last.weight, network.last.bias, padding=1) + image
    torch.testing.assert_close(network(image), wanted)


def test_discriminator_follows_its_layer_table():
    network, image = drawn(Discriminator(2)), torch.rand(2, 3, 40, 48, dtype=torch.float64)
    convs = [layer for layer in network.layers if isinstance(layer, nn.Conv2d)]
    assert [(conv.in_channels, conv.out_channels) for conv in convs] == [(6, 2), (2, 4), (4, 8), (8, 16), (16, 1)]
    x = torch.cat([image, high_pass(image)], 1)
    for i, (conv, stride) in enumerate(zip(convs[:-1], (2, 2, 2, 1), strict=True)):
        x = F.conv2d(x, conv.weight, conv.bias, stride=stride, padding=1)
        x = F.leaky_relu(F.instance_norm(x) if i else x, 0.2)
    torch.testing.assert_close(network(image), F.conv2d(x, convs[-1].weight, convs[-1].bias, padding=1))


def test_generator_follows_its_layer_table():
    network, (clean, rain) = drawn(RainGenerator(2, 2)), torch.rand(2, 1, 3, 9, 10, dtype=torch.float64)
    x = F.conv2d(torch.cat([clean, rain], 1), network.first.weight, network.first.bias, padding=3)
    x = network.blocks[1](network.blocks[0](x))
    for conv in (network.merge1, network.merge2):
        x = F.leaky_relu(F.conv2d(x, conv.weight, conv.bias, padding=1), 0.2)
    wanted = F.conv2d(x, network.last.weight, network.last.bias, padding=3) + clean
    torch.testing.assert_close(network(torch.cat([clean, rain], 1)), wanted)


@pytest.mark.parametrize("high_pass", [True, False])
@pytest.mark.parametrize("antialias", [True, False])
def test_features_of_a_discriminator_are_its_image_and_its_convolutions_before_anything_else(antialias, high_pass):
    network, image = drawn(Discriminator(2, high_pass, antialias)), torch.rand(2, 3, 40, 48, dtype=torch.float64)
    image_itself, *layers = network.features(image)
    torch.testing.assert_close(image_itself, 2 * image - 1)
    made = []
    convs = [layer for layer in network.layers if isinstance(layer, torch.nn.Conv2d)]
    for conv in convs:
        conv.register_forward_hook(lambda layer, given, out: made.append(out))
    network(image)
    assert [layer.shape[1] for layer in layers] == [2, 4, 8, 16] and len(made) == 5
    for layer, out in zip(layers, made[:4], strict=True):
        assert torch.equal(layer, out)


@pytest.mark.parametrize("network", [NAFNet(2, (1,), 1, (1,)), UNet(2, 2), Discriminator(2)], ids=name_of)
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
    painted = (generator(torch.cat([image, image], 1)) - image).std()
    assert 0.1 < painted < 10


def test_a_generator_started_grey_paints_faint_grey_rain_without_low_frequencies():
    torch.manual_seed(0)
    generator, clean, rain = RainGenerator(8, 3), torch.rand(1, 3, 40, 40), torch.rand(1, 3, 40, 40)
    init_fan_in(generator)
    generator.start_grey()
    painted = (generator(torch.cat([clean, rain], 1)) - clean)[..., 3:-3, 3:-3]
    assert (painted - painted[:, :1]).abs().max() < 1e-5
    assert 1e-3 < painted.std() < 0.2
    assert painted.mean().abs() < 0.1 * painted.std()


def test_fan_in_initialisation_paints_no_grid():
    torch.manual_seed(0)
    unet = UNet(8, 2)
    init_fan_in(unet)
    for module in unet.modules():
        if isinstance(module, nn.ConvTranspose2d):
            assert (module.weight == module.weight[:, :, :1, :1]).all()
