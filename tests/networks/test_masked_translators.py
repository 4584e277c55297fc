"""DerainCycleGAN's detector and translators: their layers in float64, counts, any size, one file that derains."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rgsud_fast.networks.masked_translators import MaskedDerainer, MaskedTranslator, RainDetector
from rgsud_fast.networks.weights import load_network, save_network

SIZES = {"width": 4, "around": 1, "dilations": [2, 4]}


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def drawn(network):
    """The same network with weights that carry a signal, in float64."""
    for parameter in network.double().parameters():
        torch.nn.init.normal_(parameter, 0, 0.2)
    return network


def test_networks_have_the_published_numbers_of_parameters():
    with torch.device("meta"):
        assert count(RainDetector()) == 167_809
        unused = 3 * (9 * 256 + 1) + 3 * (9 * 128 + 1)  # the published side outputs, which nothing reads
        assert count(MaskedTranslator()) == 6_076_553 - unused and unused == 10_374
        assert count(RainDetector(8, 3, 2)) == 7_345
        assert count(MaskedTranslator(8, 1, [2, 4], False, True)) == 54_835


def test_the_detector_is_its_formula():
    detector = drawn(RainDetector(5, 3, 2))
    image = torch.rand(2, 3, 7, 9, dtype=torch.float64)

    def conv(x, layer):
        return F.conv2d(x, layer.weight, layer.bias, padding=1)

    mask, h, c = torch.full((2, 1, 7, 9), 0.5).double(), torch.zeros(2, 5, 7, 9), torch.zeros(2, 5, 7, 9)
    for _ in range(3):
        x = conv(torch.cat([2 * image - 1, mask], 1), detector.first).clamp(min=0)
        i, f, g, o = conv(torch.cat([x, h.double()], 1), detector.gates).split(5, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        x = h
        for pair in detector.pairs:
            x = (x + conv(conv(x, pair.conv1).relu(), pair.conv2).relu()).relu()
        mask = conv(x, detector.last)
    torch.testing.assert_close(detector(image), mask / 2)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("transposed", [True, False])
def test_a_translator_is_its_formula(transposed, residual):
    network = drawn(MaskedTranslator(**SIZES, transposed=transposed, residual=residual))
    image, mask = torch.rand(2, 3, 10, 13, dtype=torch.float64), torch.randn(2, 1, 10, 13, dtype=torch.float64)
    padded = F.pad(torch.cat([image, mask], 1), (0, 3, 0, 2))

    def up(x, layer):
        if not transposed:
            x = F.interpolate(x, scale_factor=2, mode="bilinear")
            return F.conv2d(x, layer.weight, layer.bias, padding=1).relu()
        x = F.conv_transpose2d(x, layer.weight, layer.bias, stride=2, padding=1)
        bordered = F.pad(x, (1, 0, 1, 0), mode="reflect")
        across, down = x.shape[3], x.shape[2]
        shifted = [bordered[..., i : i + down, j : j + across] for i in (0, 1) for j in (0, 1)]
        return (sum(shifted) / 4).relu()

    z = torch.cat([2 * padded[:, :3] - 1, 2 * padded[:, 3:]], 1)
    one = F.conv2d(z, network.first.weight, network.first.bias, padding=2).relu()
    two = F.conv2d(one, network.down1.weight, network.down1.bias, stride=2, padding=1).relu()
    two = F.conv2d(two, network.at_half.weight, network.at_half.bias, padding=1).relu()
    x = F.conv2d(two, network.down2.weight, network.down2.bias, stride=2, padding=1).relu()
    for layer, reach in zip(network.at_quarter, [1, 2, 4, 1], strict=True):
        x = F.conv2d(x, layer.weight, layer.bias, padding=reach, dilation=reach).relu()
    x = up(x, network.up1) + two
    x = F.conv2d(x, network.merge1.weight, network.merge1.bias, padding=1).relu()
    x = up(x, network.up2) + one
    x = F.conv2d(x, network.merge2.weight, network.merge2.bias, padding=1).relu()
    made = F.conv2d(x, network.last.weight, network.last.bias, padding=1)[..., :10, :13]
    wanted = image + made / 2 if residual else (made + 1) / 2
    torch.testing.assert_close(network(torch.cat([image, mask], 1)), wanted)


def test_a_derainer_gives_its_translator_the_mask_of_its_detector():
    network = drawn(MaskedDerainer(**SIZES, detector_width=3, steps=2, pairs=1))
    image = torch.rand(1, 3, 17, 22, dtype=torch.float64)
    derained, mask = network.features(image)
    torch.testing.assert_close(mask, network.detector(image))
    torch.testing.assert_close(derained, network.translator(torch.cat([image, mask], 1)))
    assert torch.equal(network(image), derained) and torch.equal(network.mask(image), mask)


def test_a_derainer_is_one_file(tmp_path):
    network = MaskedDerainer(**SIZES, residual=True, transposed=False, detector_width=3, steps=2, pairs=1)
    save_network(tmp_path / "derainer.safetensors", network, "derainer")
    image = torch.rand(1, 3, 18, 21)
    assert torch.equal(load_network(tmp_path)(image), network(image))


def test_a_fresh_residual_derainer_is_near_the_identity():
    network = MaskedDerainer(**SIZES, residual=True)
    network.start_near_identity()
    image = torch.rand(1, 3, 16, 16)
    assert (network(image) - image).abs().max() < 0.05 and network.mask(image).abs().max() < 0.05
