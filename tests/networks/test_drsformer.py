"""DRSformer has the published counts and names, and does what its formulas say, in float64."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from test_restormer import count, drawn, features
from torch import nn

from rgsud_fast.networks.derainers.drsformer import DRSformer, Experts, MixedFeedForward, SparseAttention
from rgsud_fast.networks.derainers.transformer import Attention, depthwise

W = ("attn1", "attn2", "attn3", "attn4")


def test_the_published_counts():
    with torch.device("meta"):
        network, plain = DRSformer(), DRSformer(experts=False)
        assert [count(network), count(plain)] == [33_655_424, 32_610_304]
        assert [len(n.state_dict()) for n in (network, plain)] == [924, 730]
        assert [count(DRSformer(8, (1, 1, 1, 1), experts=on)) for on in (False, True)] == [279_930, 334_490]
    blocks = [network.get_submodule(f"encoder_level{level}.0") for level in (1, 2, 3)] + [network.latent[0]]
    assert [count(block) for block in blocks] == [52_365, 172_446, 614_456, 2_308_852]
    assert [count(network.encoder_level0), count(network.refinement)] == [230_816, 814_304]


def rows_of(attention, scores):
    """The mixing weights by a loop over rows that sorts each, and of equal scores keeps the first."""
    mixed = torch.zeros_like(scores)
    channels = scores.shape[-1]
    for where in torch.cartesian_prod(*(torch.arange(side) for side in scores.shape[:-1])).tolist():
        row = scores[tuple(where)]
        order = sorted(range(channels), key=lambda i, row=row: -row[i].item())
        for name, k in zip(W, (channels // 2, 2 * channels // 3, 3 * channels // 4, 4 * channels // 5), strict=True):
            kept = order[:k]
            mixed[(*where, kept)] += getattr(attention, name) * row[kept].softmax(0)
    return mixed


def test_sparse_attention_is_a_loop_over_sorted_rows():
    attention, x = drawn(SparseAttention(24, 2)), features(2, 24, 5, 6)
    scores = features(2, 2, 12, 12)
    torch.testing.assert_close(attention.mixing(scores), rows_of(attention, scores), rtol=1e-12, atol=1e-14)
    qkv = F.conv2d(F.conv2d(x, attention.qkv.weight), attention.qkv_dwconv.weight, padding=1, groups=72)
    q, k, v = (part.reshape(2, 2, 12, 30) for part in qkv.chunk(3, 1))
    scores = attention.temperature * F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
    mixed = rows_of(attention, scores) @ v
    wanted = F.conv2d(mixed.reshape(2, 24, 5, 6), attention.project_out.weight)
    torch.testing.assert_close(attention(x), wanted)


def test_of_equal_scores_as_many_are_kept():
    attention = drawn(SparseAttention(12, 1))
    scores = torch.randint(0, 3, (1, 1, 12, 12)).double()
    made, wanted = attention.mixing(scores), rows_of(attention, scores)
    torch.testing.assert_close(made.sort(-1).values, wanted.sort(-1).values)
    assert (made != 0).sum(-1).unique().tolist() == [9]


def test_four_shares_start_at_a_fifth_and_none_gives_nothing():
    attention, x = SparseAttention(12, 1).double(), features(1, 12, 4, 4)
    torch.testing.assert_close(attention.mixing(features(1, 1, 12, 12)).sum(-1), torch.full((1, 1, 12), 0.8).double())
    for name in W:
        nn.init.zeros_(getattr(attention, name))
    assert not attention(x).any()


def test_with_all_scores_and_weights_of_one_it_is_restormers(monkeypatch):
    monkeypatch.setattr("rgsud_fast.networks.derainers.drsformer.SHARES", ((1, 1),) * 4)
    sparse, plain = drawn(SparseAttention(12, 3)), Attention(12, 3, depthwise).double()
    for name in W:
        nn.init.constant_(getattr(sparse, name), 0.25)
    plain.load_state_dict({key: value for key, value in sparse.state_dict().items() if key not in W})
    x = features(2, 12, 5, 6)
    torch.testing.assert_close(sparse(x), plain(x))


def test_mixed_feed_forward_follows_its_formula():
    network, x = drawn(MixedFeedForward(4, 6)), features(2, 4, 7, 6)
    t = F.conv2d(x, network.project_in.weight)
    p = F.relu(F.conv2d(t, network.dwconv3x3.weight, padding=1, groups=12))
    r = F.relu(F.conv2d(t, network.dwconv5x5.weight, padding=2, groups=12))
    made = []
    for half, layer, pad in ((0, network.dwconv3x3_1, 1), (1, network.dwconv5x5_1, 2)):
        both = torch.cat([p[:, 6 * half : 6 * half + 6], r[:, 6 * half : 6 * half + 6]], 1)
        pairs = (F.conv2d(both[:, 2 * i : 2 * i + 2], layer.weight[i : i + 1], padding=pad) for i in range(6))
        made.append(F.relu(torch.cat(list(pairs), 1)))
    torch.testing.assert_close(network(x), F.conv2d(torch.cat(made, 1), network.project_out.weight))


def test_experts_follow_their_formula():
    network, x = drawn(Experts(3)), features(2, 3, 7, 8)
    fc, steps = network.layers[0].ca_fc, network.layers[1]
    hidden = F.relu(F.linear(x.mean((2, 3)), fc[0].weight, fc[0].bias))
    weights = F.linear(hidden, fc[2].weight, fc[2].bias).reshape(2, 4, 8).softmax(2)
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 4).double())
    made = F.relu(F.conv2d(x, steps.preprocess.op[0].weight))
    for step in range(4):
        names, parts = dict(steps._ops[step]._ops.named_parameters()), []
        for operator, taps in enumerate((1, 3, 5, 7)):
            y = made
            for first in (0, 3):
                y = F.conv2d(y, names[f"{operator}.op.{first}.weight"], padding=taps // 2, groups=3)
                y = F.conv2d(y, names[f"{operator}.op.{first + 1}.weight"])
                y = F.relu(y) if first == 0 else y
            parts.append(y)
        for operator, taps in enumerate((3, 5, 7), 4):
            y = F.conv2d(made, names[f"{operator}.op.0.weight"], padding=taps - 1, dilation=2, groups=3)
            parts.append(F.conv2d(y, names[f"{operator}.op.1.weight"]))
        ones = torch.ones(3, 1, 3, 3).double()
        inside = F.conv2d(torch.ones_like(made), ones, padding=1, groups=3)
        parts.append(F.conv2d(made, ones, padding=1, groups=3) / inside)
        mixed = torch.cat([weights[:, step, i, None, None, None] * part for i, part in enumerate(parts)], 1)
        made = F.relu(made + F.relu(F.conv2d(mixed, steps._ops[step]._out[0].weight)))
    torch.testing.assert_close(network(x), made)


def test_experts_stand_first_and_last():
    network, image = drawn(DRSformer(4, (1, 1), (1, 2)), 0.3), features(1, 3, 6, 8)
    x0 = network.encoder_level1(network.encoder_level0(network.patch_embed(image)))
    x = network.up2_1(network.latent(network.down1_2(x0)))
    x = network.output(network.refinement(network.decoder_level1(torch.cat([x, x0], 1))))
    torch.testing.assert_close(network(image), x + image)
