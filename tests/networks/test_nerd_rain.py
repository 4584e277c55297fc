"""NeRD-Rain has the published counts and names, and does what its formulas say, in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_restormer import drawn, features

from rgsud_fast.networks.derainers.nerd_rain import Fusion, NeRDRain, Representation, fold_inr, unfold_inr


@pytest.mark.parametrize("sizes, count", [({}, 22_893_146), ({"dim": 32}, 10_530_314)], ids=["base", "small"])
def test_the_published_counts(sizes, count):
    with torch.device("meta"):
        network = NeRDRain(**sizes)
    tensors = unfold_inr(network.state_dict())
    assert (sum(tensor.numel() for tensor in tensors.values()), len(tensors)) == (count, 947)
    unused = 2 * network.sizes["dim"] ** 2
    trained = sum(parameter.numel() for parameter in network.parameters())
    assert trained == count - unused - 2 * 20 * 256


def published_inr(dim, hidden):
    """The tensors of one representation in the published layout, named as the first."""
    shapes = {"0": (hidden, 9 * dim + 20), "2": (hidden, hidden), "4": (hidden, hidden), "6": (3, hidden)}
    return {
        f"INR.imnet.layers.{layer}.{part}": features(*(shape if part == "weight" else shape[:1]))
        for layer, shape in shapes.items()
        for part in ("weight", "bias")
    }


def test_the_folded_representation_is_the_published_one_on_the_coordinates_it_gets():
    x, theirs = features(2, 4, 6, 5), published_inr(4, 7)
    neighbourhood = F.unfold(x, 3, padding=1)  # [N, 9 C, HW]
    unseen = torch.cat([torch.zeros(2, 18, 30), torch.full((2, 2, 30), 2.0)], 1).double()
    hidden = torch.cat([neighbourhood, unseen], 1).transpose(1, 2)
    for layer in (0, 2, 4, 6):
        weight, bias = (theirs[f"INR.imnet.layers.{layer}.{part}"] for part in ("weight", "bias"))
        hidden = F.linear(hidden if layer == 0 else F.relu(hidden), weight, bias)
    wanted = hidden.transpose(1, 2).unflatten(2, (6, 5))
    inr = Representation(4, 7).double()
    inr.load_state_dict({name.removeprefix("INR."): tensor for name, tensor in fold_inr(theirs).items()})
    torch.testing.assert_close(inr(x), wanted, rtol=1e-12, atol=1e-12)

    theirs["INR.imnet.layers.0.weight"][:, -20:-2] = features(7, 18)  # the columns of coordinates
    assert torch.equal(fold_inr(theirs)["INR.imnet.layers.0.weight"], inr.imnet["layers"][0].weight)


def test_unfolding_is_undone_by_folding():
    network = NeRDRain(4, (1, 1), (1, 2), hidden=8)
    tensors = network.state_dict()
    again = fold_inr(unfold_inr(tensors))
    assert again.keys() == tensors.keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in tensors.items())


def test_fusion_follows_its_formula():
    fusion, x, y = drawn(Fusion(4)), features(2, 4, 5, 6), features(2, 4, 5, 6)

    def conv(features, layer):
        return F.conv2d(features, layer.weight, layer.bias, padding=1)

    alike = torch.sigmoid(conv(x, fusion.query_conv) * conv(y, fusion.key_conv))
    g, h = conv(torch.cat([x, x * alike], 1), fusion.gamma1), conv(torch.cat([y, y * alike], 1), fusion.gamma2)
    wanted = x * g[:, :1] + x * alike * g[:, 1:] + y * h[:, :1] + y * alike * h[:, 1:]
    torch.testing.assert_close(fusion(x, y), wanted)


def test_three_scales_from_coarse_to_fine_and_back():
    n, image = drawn(NeRDRain(4, (1, 1), (1, 2), hidden=6), 0.3), features(1, 3, 16, 24)

    def nearest(x, factor):
        return F.interpolate(x, scale_factor=factor, mode="nearest")

    def encode(x, blocks, ways):
        skip = getattr(n, f"encoder_level1_{blocks}")(x)
        return getattr(n, f"latent_{blocks}")(getattr(n, f"down1_2_{ways}")(skip)), skip

    def decode(latent, skip, blocks, ways, reduced):
        x = torch.cat([getattr(n, f"up2_1_{ways}")(latent), skip], 1)
        return getattr(n, f"decoder_level1_{blocks}")(F.conv2d(x, getattr(n, f"reduce_chan_level1_{reduced}").weight))

    s, ls_skip = nearest(image, 0.25), None
    ls, ls_skip = encode(n.patch_embed_small(s), "small", "small")
    s = s + n.INR(n.upsmall2mid1(ls))
    m = nearest(image, 0.5) + nearest(s, 2)
    m1, m1_skip = encode(n.patch_embed_mid(m), "mid1", "mid")
    m = m + n.INR2(n.upmid2max1(m1))
    x1, skip = encode(n.patch_embed_max(image + nearest(m, 2)), "max1", "max")
    x2, skip = encode(n.output_max_context1(decode(x1, skip, "max1", "max", "max1")), "max2", "max2")
    x3, x3_skip = encode(n.output_max_context2(decode(x2, skip, "max2", "max2", "max2")), "max3", "max3")
    first = decode(m1 + nearest(n.BF1(x1, x2), 0.5), m1_skip, "mid1", "mid", "mid1")
    m2, m2_skip = encode(n.output_mid_context(first), "mid2", "mid2")
    small = decode(ls + nearest(n.BF3(m1, m2), 0.5), ls_skip, "small", "small", "small")
    middle = decode(m2 + nearest(n.BF2(x2, x3), 0.5), m2_skip, "mid2", "mid2", "mid2") + nearest(small, 2)
    large = decode(x3, x3_skip, "max3", "max3", "max2") + nearest(middle, 2)
    wanted = F.conv2d(large, n.output_max.weight, padding=1) + image
    torch.testing.assert_close(n(image), wanted, rtol=1e-10, atol=1e-10)
    half = F.conv2d(middle, n.output_mid.weight, padding=1) + nearest(image, 0.5)
    quarter = F.conv2d(small, n.output_small.weight, padding=1) + nearest(image, 0.25)
    for made, scale in zip(n(image, True), (wanted, half, quarter), strict=True):
        torch.testing.assert_close(made, scale, rtol=1e-10, atol=1e-10)
    odd = n(image[..., :15, :21], True)
    assert [list(scale.shape[2:]) for scale in odd] == [[15, 21], [8, 11], [4, 6]]


def test_two_outputs_learn_nothing_by_the_image_alone():
    network = NeRDRain(4, (1, 1), (1, 2), hidden=6)
    network(torch.rand(1, 3, 16, 16)).sum().backward()
    idle = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert idle == {"output_small.weight", "output_mid.weight"}
    assert "reduce_chan_level1_max3.weight" in network.state_dict()
    assert "reduce_chan_level1_max3.weight" not in dict(network.named_parameters())
