"""DRSformer (Chen et al., CVPR 2023): Restormer's U-net, whose attention keeps the largest scores of each row alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops import gated_dconv
from ...ops._layout import without_autocast
from .._common import Checkpointed, recomputed
from .transformer import Attention, Block, UNetOfBlocks, at_least_float32, depthwise, pointwise

SHARES = ((1, 2), (2, 3), (3, 4), (4, 5))  # of a row that each attention keeps, rounded down
OPERATORS = 8  # of an expert layer
STEPS = 4


class DRSformer(UNetOfBlocks):
    """Remove rain from an image: DRSformer with a global residual.

    33,655,424 parameters at the defaults; 32,610,304 without experts, as published for Rain200L and SPA-Data.

    Args:
        dim: channels at full resolution, even; doubled per level.
        blocks: blocks per level, the bottom last.
        heads: heads per level, which divide its channels.
        expansion: hidden channels of a feed-forward by those of its block, rounded down.
        experts: whether the first and the last features go through `Experts`.
        norm_bias: whether normalisations take the mean away and shift.
        reflect: pad by reflection, as the published weights are judged; else with zeros.
    """

    def __init__(
        self,
        dim: int = 48,
        blocks: Sequence[int] = (4, 6, 6, 8),
        heads: Sequence[int] = (1, 2, 4, 8),
        expansion: float = 2.66,
        experts: bool = True,
        norm_bias: bool = True,
        reflect: bool = False,
    ) -> None:
        def block(channels: int, count: int) -> Block:
            attention, hidden = SparseAttention(channels, count), int(expansion * channels)
            return Block(channels, attention, MixedFeedForward(channels, hidden), norm_bias)

        super().__init__(dim, blocks, heads, block, reflect)
        if experts:
            self.encoder_level0, self.refinement = Experts(dim), Experts(2 * dim)
        self.sizes = {"dim": dim, "blocks": list(blocks), "heads": list(heads), "expansion": expansion}
        self.sizes |= {"experts": experts, "norm_bias": norm_bias, "reflect": reflect}


class SparseAttention(Attention):
    """Attention of which each row keeps its largest scores (TKSA): the sum over four shares k of w_k softmax(top k).

    A row is sorted once; e^score falls along it, so that a softmax over its k first is a cut of one sum. Rows need not
    sum to 1: each w starts at 0.2.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__(channels, heads, depthwise)
        self.attn1, self.attn2, self.attn3, self.attn4 = (nn.Parameter(torch.full((1,), 0.2)) for _ in SHARES)

    def mixing(self, scores: Tensor) -> Tensor:
        weights = [self.attn1, self.attn2, self.attn3, self.attn4]
        counts = [max(scores.shape[-1] * share // whole, 1) for share, whole in SHARES]
        largest, places = scores.topk(counts[-1], dim=-1)
        powers = (largest - largest[..., :1]).exp()
        sums = powers.cumsum(-1)
        factors = torch.zeros_like(powers)
        for weight, count in zip(weights, counts, strict=True):
            shares = weight / sums[..., count - 1 : count]
            factors = factors + F.pad(shares.expand(*shares.shape[:-1], count), (0, counts[-1] - count))
        return torch.zeros_like(scores).scatter(-1, places, powers * factors)


class MixedFeedForward(nn.Module):
    """DRSformer's feed-forward (MSFN), at two sizes of neighbourhood.

    Of t = 1x1(x) the halves p1, p2 = relu(depthwise 3x3) and r1, r2 = relu(depthwise 5x5); then 1x1 of relu(3x3) of
    [p1, r1] and relu(5x5) of [p2, r2], in groups of two channels that follow one another.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.project_in = pointwise(channels, 2 * hidden)
        self.dwconv3x3 = depthwise(2 * hidden)
        self.dwconv5x5 = depthwise(2 * hidden, 5)
        self.dwconv3x3_1 = nn.Conv2d(2 * hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.dwconv5x5_1 = nn.Conv2d(2 * hidden, hidden, 5, padding=2, groups=hidden, bias=False)
        self.project_out = pointwise(2 * hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project_in(x)
        p1, p2 = F.relu(self.dwconv3x3(x)).chunk(2, 1)
        r1, r2 = F.relu(self.dwconv5x5(x)).chunk(2, 1)
        small = F.relu(paired(torch.cat([p1, r1], 1), self.dwconv3x3_1.weight))
        large = F.relu(paired(torch.cat([p2, r2], 1), self.dwconv5x5_1.weight))
        return cast(Tensor, self.project_out(torch.cat([small, large], 1)))


def paired(x: Tensor, weight: Tensor) -> Tensor:
    """A convolution of every two channels that follow one another, [N, 2C, H, W] and [C, 2, k, k] -> [N, C, H, W].

    Each channel by itself and then their sum: on CPUs twice as fast, back and forth, as groups of two.
    """
    by_channel = gated_dconv(x, weight.flatten(0, 1).unsqueeze(1), gate="none")
    return by_channel.unflatten(1, (-1, 2)).sum(2)


class Experts(nn.Module, Checkpointed):
    """Four steps of eight operators each, weighted by what the whole image is like (MEFC).

    x <- relu(1x1(x)), then four times x <- relu(x + relu(1x1 of [w_o operator_o(x)])), where the weights of a step are
    the softmax over its operators of two linear layers of the global mean. [N, C, H, W] -> the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_Weights(channels), _Steps(channels)])

    def forward(self, x: Tensor) -> Tensor:
        weights = self.layers[0](x)  # [N, STEPS, OPERATORS]
        first, steps = self.layers[1].children()
        x = F.relu(first(x))
        again = self.checkpointed and torch.is_grad_enabled()
        for step, share in zip(cast(nn.ModuleList, steps), weights.unbind(1), strict=True):
            x = recomputed(step, x, share) if again else step(x, share)
        return x


class _Weights(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ca_fc = nn.Sequential(nn.Linear(channels, 64), nn.ReLU(), nn.Linear(64, STEPS * OPERATORS))

    def forward(self, x: Tensor) -> Tensor:
        with without_autocast(x):
            weights = self.ca_fc(at_least_float32(x).mean((2, 3)))
            return cast(Tensor, weights.unflatten(1, (STEPS, OPERATORS)).softmax(-1)).to(x.dtype)


class _Steps(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.preprocess = _Operator(pointwise(channels, channels))
        self._ops = nn.ModuleList(_Step(channels) for _ in range(STEPS))


class _Step(nn.Module):
    """One step, of features [N, C, H, W] and weights [N, OPERATORS]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        operators = [_separable(channels, taps) for taps in (1, 3, 5, 7)]
        operators += [_dilated(channels, taps) for taps in (3, 5, 7)]
        self._ops = nn.ModuleList([*operators, nn.AvgPool2d(3, 1, 1, count_include_pad=False)])
        self._out = nn.Sequential(pointwise(OPERATORS * channels, channels), nn.ReLU())

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        parts = [operator(x) * weights[:, i, None, None, None] for i, operator in enumerate(self._ops)]
        return F.relu(x + self._out(torch.cat(parts, 1)))


class _Operator(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.op = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.op(x))


def _separable(channels: int, taps: int) -> _Operator:
    half = depthwise(channels, taps), pointwise(channels, channels)
    return _Operator(*half, nn.ReLU(), depthwise(channels, taps), pointwise(channels, channels))


def _dilated(channels: int, taps: int) -> _Operator:
    return _Operator(depthwise(channels, taps, 2), pointwise(channels, channels))
