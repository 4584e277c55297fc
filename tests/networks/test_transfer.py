"""The transfer network has the published size, follows its layer table, and keeps its spectral norm."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rgsud_fast.networks.transfer import UNUSED, Transfer
from rgsud_fast.networks.weights import load_network, save_network


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def drawn(network):
    """The same in float64 with every parameter drawn at random, so that each one shows in the output."""
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    return network.double()


def test_both_published_numbers_of_parameters():
    with torch.device("meta"):
        assert count(Transfer()) == 2_379_971
        assert count(Transfer()) + UNUSED == 2_464_424
        assert count(Transfer(16, 3, residual=True)) == 97_139


def normalised(conv):
    """W / (u' W v) with the vectors that the network keeps."""
    kept = conv.parametrizations.weight
    matrix = kept.original.flatten(1)
    return kept.original / (kept[0]._u @ matrix @ kept[0]._v)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("size", [(12, 8), (11, 13)], ids=str)
def test_it_follows_its_layer_table(size, residual):
    torch.manual_seed(0)
    network = drawn(Transfer(4, 2, residual)).eval()
    scene = torch.rand(2, 6, *size, dtype=torch.float64)

    def conv(layer, x):
        return F.conv2d(x, layer.weight, layer.bias, padding=layer.weight.shape[-1] // 2)

    def lrelu(x):
        return F.leaky_relu(x, 0.2)

    clean, guide = F.pad(scene, (0, size[1] % 2, 0, size[0] % 2)).chunk(2, dim=1)
    a, f0 = conv(network.first, clean), conv(network.first, guide)
    f = lrelu(F.conv2d(f0, normalised(network.guide_down), stride=2, padding=1))
    f = F.interpolate(f, scale_factor=2, mode="bilinear", align_corners=False)
    f = lrelu(F.conv2d(f, normalised(network.guide_up), padding=1)) + f0
    x = torch.cat([a, F.conv2d(f, normalised(network.guide_last), padding=1)], dim=1)
    for block in network.blocks:
        x = x + lrelu(conv(block.conv2, lrelu(conv(block.conv1, x))))
    x = conv(network.merge3, lrelu(conv(network.merge2, lrelu(conv(network.merge1, x)))))
    wanted = conv(network.last, x + conv(network.skip, a) + a) + (clean if residual else 0)
    torch.testing.assert_close(network(scene), wanted[..., : size[0], : size[1]])


def test_its_guide_has_spectral_norm_one():
    network = Transfer(4, 1)
    scene = torch.rand(1, 6, 8, 8)
    for _ in range(100):
        network(scene)
    for conv in (network.guide_down, network.guide_up, network.guide_last):
        assert conv.bias is None
        assert torch.linalg.matrix_norm(conv.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)


def test_its_singular_values_are_not_rounded():
    network, lowered = Transfer(4, 1), []
    for conv in (network.guide_down, network.guide_up, network.guide_last):
        norm = conv.parametrizations.weight[0]
        norm.register_forward_pre_hook(lambda *_: lowered.append(torch.is_autocast_enabled("cpu")))
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.rand(1, 6, 8, 8))
    assert lowered == [False] * 3


def test_a_fresh_residual_one_adds_faint_grey_rain():
    torch.manual_seed(0)
    network = Transfer(8, 1, residual=True)
    network.start_near_identity()
    scene = torch.rand(1, 6, 16, 16)
    rain = network(scene) - scene[:, :3] - network.last.bias.view(1, 3, 1, 1)
    assert 0 < rain.std() < 0.05
    torch.testing.assert_close(rain, rain.mean(1, keepdim=True).expand_as(rain), atol=1e-6, rtol=0)


def test_a_saved_one_computes_the_same(tmp_path):
    torch.manual_seed(0)
    network = Transfer(4, 1, residual=True)
    scene = torch.rand(1, 6, 9, 14)
    for _ in range(3):
        network(scene)  # the norms' vectors move, and are saved
    save_network(tmp_path / "transfer.safetensors", network, "transfer")
    again = load_network(tmp_path / "transfer.safetensors")
    assert torch.equal(again(scene), network.eval()(scene))
