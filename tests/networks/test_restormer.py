"""Restormer has the published counts and names, and does what its formulas say, in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgsud_fast.config import load_config
from rgsud_fast.methods.build import build_networks
from rgsud_fast.networks.derainers.restormer import Restormer
from rgsud_fast.networks.derainers.sizes import expansion_of
from rgsud_fast.networks.derainers.transformer import (
    Attention,
    Block,
    FeedForward,
    Norm,
    depthwise,
    pad_by_reflection,
    reflect_to_multiple,
)


def drawn(module: nn.Module, spread: float = 0.5) -> nn.Module:
    """The same module in float64 with every parameter drawn at random."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0.0, spread)
    return module.double()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def features(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def normalised(x: Tensor, norm: Norm) -> Tensor:
    body = norm.body
    return F.layer_norm(x.movedim(1, -1), (x.shape[1],), body.weight, body.bias, 1e-5).movedim(-1, 1)


def test_the_published_counts():
    with torch.device("meta"):
        network = Restormer()
        assert (count(network), len(network.state_dict())) == (26_126_644, 494)
        assert count(Restormer(norm_bias=False)) == 26_111_668
        assert count(Restormer(8, (1, 1, 1, 1), 1)) == 208_225
    blocks = [network.get_submodule(f"encoder_level{level}.0") for level in (1, 2, 3)] + [network.latent[0]]
    assert [count(block) for block in blocks] == [31_279, 117_872, 456_352, 1_796_306]
    assert [block.ffn.project_out.in_channels for block in blocks] == [127, 255, 510, 1021]


def test_attention_is_a_loop_over_heads():
    attention, x = drawn(Attention(6, 3, depthwise)), features(2, 6, 5, 7)
    qkv = F.conv2d(x, attention.qkv.weight)
    q, k, v = F.conv2d(qkv, attention.qkv_dwconv.weight, padding=1, groups=18).chunk(3, 1)
    made = []
    for image in range(2):
        for head in range(3):
            rows = slice(2 * head, 2 * head + 2)
            a, b, c = (part[image, rows].reshape(2, 35) for part in (q, k, v))
            a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
            made.append((attention.temperature[head] * a @ b.T).softmax(1) @ c)
    wanted = F.conv2d(torch.stack(made).reshape(2, 6, 5, 7), attention.project_out.weight)
    torch.testing.assert_close(attention(x), wanted, rtol=1e-12, atol=1e-12)


def test_attention_of_a_black_image_has_finite_gradients():
    attention, x = Attention(4, 2, depthwise), torch.zeros(1, 4, 8, 8, requires_grad=True)
    attention(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in attention.parameters())


def test_feed_forward_follows_its_formula():
    network, x = drawn(FeedForward(4, 10, depthwise)), features(2, 4, 6, 5)
    hidden = F.conv2d(F.conv2d(x, network.project_in.weight), network.dwconv.weight, padding=1, groups=20)
    wanted = F.conv2d(F.gelu(hidden[:, :10]) * hidden[:, 10:], network.project_out.weight)
    torch.testing.assert_close(network(x), wanted)


def test_a_block_adds_twice():
    block, x = drawn(Block(4, Attention(4, 1, depthwise), FeedForward(4, 5, depthwise))), features(1, 4, 5, 5)
    y = x + block.attn(normalised(x, block.norm1))
    torch.testing.assert_close(block(x), y + block.ffn(normalised(y, block.norm2)))


def test_a_norm_without_shift_leaves_the_mean_in():
    norm, x = drawn(Norm(5, shift=False)), features(2, 5, 3, 4)
    wanted = x / (x.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt() * norm.body.weight[:, None, None]
    torch.testing.assert_close(norm(x), wanted)
    assert list(norm.state_dict()) == ["body.weight"]


def test_the_body_is_a_u_net_without_a_reduction_at_level_1():
    network, image = drawn(Restormer(2, (1, 1, 1), 1, (1, 1, 2)), 0.3), features(2, 3, 8, 12)

    def conv(x, name):
        weight = network.get_submodule(name).weight
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)

    x0 = network.encoder_level1(conv(image, "patch_embed.proj"))
    x1 = network.encoder_level2(F.pixel_unshuffle(conv(x0, "down1_2.body.0"), 2))
    x = network.latent(F.pixel_unshuffle(conv(x1, "down2_3.body.0"), 2))
    x = torch.cat([F.pixel_shuffle(conv(x, "up3_2.body.0"), 2), x1], 1)
    x = network.decoder_level2(conv(x, "reduce_chan_level2"))
    x = torch.cat([F.pixel_shuffle(conv(x, "up2_1.body.0"), 2), x0], 1)
    x = network.refinement(network.decoder_level1(x))
    torch.testing.assert_close(network(image), conv(x, "output") + image)


def test_with_a_last_convolution_of_zero_it_is_the_identity():
    network, image = Restormer(4, (1, 1), 1, (1, 2)), torch.rand(1, 3, 33, 35)
    nn.init.zeros_(network.last.weight)
    assert torch.equal(network(image), image)


@pytest.mark.parametrize("size", [(8, 8), (9, 15), (12, 17)], ids=str)
def test_padding_by_reflection_is_pytorchs(size):
    image = torch.rand(2, 3, *size)
    down, right = (-side % 8 for side in size)
    assert torch.equal(reflect_to_multiple(image, 8), F.pad(image, (0, right, 0, down), "reflect"))
    assert reflect_to_multiple(image[..., :1, :2], 8).shape == (2, 3, 8, 8)


def test_padding_shows_at_borders_alone():
    network, image = Restormer(4, (1, 1), 1, (1, 2)), torch.rand(1, 3, 33, 32)
    zeros, whole = network(image), network(image[..., :32, :])
    pad_by_reflection(network)
    assert network.sizes["reflect"] and not torch.equal(network(image), zeros)
    assert torch.equal(network(image[..., :32, :]), whole)


def test_it_begins_near_the_photograph():
    config = load_config({"preset": "small", "network": {"derainer": "restormer"}})
    near = build_networks(config, torch.device("cpu")).derainer
    far = build_networks(
        load_config(config.model_dump() | {"network": {"last_gain": 1.0, "derainer": "restormer"}}), torch.device("cpu")
    ).derainer
    torch.testing.assert_close(far.last.weight * 0.1, near.last.weight)
    image = torch.rand(1, 3, 64, 64)
    assert (near(image) - image).abs().mean() < 0.03 < (far(image) - image).abs().mean()


def test_an_expansion_is_found_from_what_it_made():
    assert expansion_of([(48, 127), (96, 255), (192, 510), (384, 1021)]) == 2.66
    assert expansion_of([(4, 8), (8, 16)]) == 2
    assert expansion_of([(4, 9), (8, 19)]) == 2.4
    with pytest.raises(ValueError, match="no expansion makes"):
        expansion_of([(4, 9), (8, 40)])


@pytest.mark.parametrize(
    "sizes", [{"dim": 3}, {"heads": (1, 2)}, {"heads": (1, 5, 4, 8)}, {"blocks": (1,), "heads": (1,)}]
)
def test_sizes_that_do_not_go_together_are_refused(sizes):
    with pytest.raises(ValueError, match="must"):
        Restormer(**sizes)


def test_bfloat16_keeps_its_attention_in_float32():
    network, image = drawn(Restormer(8, (1, 1), 1, (1, 2)), 0.2).float(), torch.rand(1, 3, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        lowered = network(image)
    assert lowered.dtype == torch.float32
    exact = network(image)
    assert (lowered - exact).abs().mean() < 0.05 * (exact - image).abs().mean()
