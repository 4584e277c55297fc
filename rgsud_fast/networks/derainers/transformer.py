"""Parts of the derainers whose attention is over channels: their block, their ways between levels, their U-net.

Modules are called as in the published files, so that a state dict of ours is one of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...ops import layernorm2d
from ...ops._layout import without_autocast
from ...ops.gated_dconv import Gate, dconv
from .._common import Blocks, check_image, cut, pad_to_multiple
from .channel_gram import at_least_float32, channel_gram, mix

EPS = 1e-5  # of every normalisation


class Norm(nn.Module):
    """Layer normalisation over the channels of each pixel; without shift the mean is left in as well."""

    def __init__(self, channels: int, shift: bool = True) -> None:
        super().__init__()
        self.body = _Affine(channels, shift)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.body.weight, self.body.bias
        if bias is not None:
            return layernorm2d(x, weight, bias, EPS)
        with without_autocast(x):
            variance = at_least_float32(x).var(1, keepdim=True, correction=0)
            return (at_least_float32(x) * torch.rsqrt(variance + EPS) * weight[:, None, None]).to(x.dtype)


class _Affine(nn.Module):
    def __init__(self, channels: int, shift: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if shift else None


class Attention(nn.Module):
    """Restormer's attention (MDTA): each head mixes its channels, by how alike they are over all pixels.

    q, k, v = depthwise 3x3 of a 1x1 convolution, [heads, C, HW] each; 1x1(softmax(t q k^T / (|q_i| |k_j|)) v).
    The norms are divided out of the product, so that neither a normalised q nor k is kept.
    """

    def __init__(self, channels: int, heads: int, depthwise: Depthwise) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = pointwise(channels, 3 * channels)
        self.qkv_dwconv = depthwise(3 * channels)
        self.project_out = pointwise(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        scores, v = channel_scores(self.qkv_dwconv(self.qkv(x)), self.temperature)
        return mix(self.mixing(scores), v, self.project_out.weight)

    def mixing(self, scores: Tensor) -> Tensor:
        """The weights of a head's channels in each of them, of scores [N, heads, C, C]."""
        return scores.softmax(-1)


def channel_scores(qkv: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    """How alike the channels of q and k are, t q k^T / (|q_i| |k_j|), [N, heads, C, C], and v, of [N, 3 heads C, H, W].

    Float32 at least, also where autocast is on: sums are over all pixels.
    """
    dots, q_norms, k_norms, v = channel_gram(qkv, len(temperature))
    lengths = q_norms.clamp_min(1e-12).unsqueeze(-1) * k_norms.clamp_min(1e-12).unsqueeze(-2)
    return dots / lengths * temperature, v


class FeedForward(nn.Module):
    """Restormer's feed-forward (GDFN): a, b = depthwise 3x3 of a 1x1 convolution; 1x1(gelu(a) b), exact GELU."""

    def __init__(self, channels: int, hidden: int, depthwise: Depthwise) -> None:
        super().__init__()
        self.project_in = pointwise(channels, 2 * hidden)
        self.dwconv = depthwise(2 * hidden)
        self.project_out = pointwise(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.project_out(self.dwconv(self.project_in(x), "gelu")))


class Block(nn.Module):
    """x <- x + attention(norm x); x <- x + feed-forward(norm x). [N, C, H, W] -> the same."""

    def __init__(self, channels: int, attention: nn.Module, feed_forward: nn.Module, shift: bool = True) -> None:
        super().__init__()
        self.norm1 = Norm(channels, shift)
        self.attn = attention
        self.norm2 = Norm(channels, shift)
        self.ffn = feed_forward

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + cast(Tensor, self.ffn(self.norm2(x)))


class Patches(nn.Module):
    """The first convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = spatial(3, channels)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.proj(x))


class Down(nn.Module):
    """[N, C, H, W] -> [N, 2C, H/2, W/2]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(spatial(channels, channels // 2), nn.PixelUnshuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.body(x))


class Up(nn.Module):
    """[N, C, H, W] -> [N, C/2, 2H, 2W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(spatial(channels, 2 * channels), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.body(x))


class UNetOfBlocks(nn.Module):
    """Restormer's body: an encoder, a bottom and a decoder of blocks, whose input is added to what comes out.

    Level 1 is the full resolution; its decoder keeps the skip's channels beside its own, twice `dim`, without a 1x1.

    Args:
        dim: channels at full resolution, even; doubled per level.
        blocks: blocks per level, the bottom last; two levels at least.
        heads: heads per level.
        block: makes a block of so many channels and heads.
        reflect: pad by reflection, as the published weights are judged; else with zeros.

    Raises:
        ValueError: levels that do not go together, or channels that the heads do not divide.
    """

    def __init__(
        self, dim: int, blocks: Sequence[int], heads: Sequence[int], block: Callable[[int, int], Block], reflect: bool
    ) -> None:
        super().__init__()
        check_levels(dim, blocks, heads)
        self.levels, self.reflect = len(blocks), reflect
        self.sizes: dict[str, Any] = {}  # of the class that says what its blocks are
        widths = [dim << level for level in range(self.levels)]
        self.patch_embed = Patches(dim)
        self.encoder_level0: nn.Module = nn.Identity()
        for level, width in enumerate(widths[:-1], 1):
            self.add_module(f"encoder_level{level}", chain(blocks[level - 1], block, width, heads[level - 1]))
            self.add_module(f"down{level}_{level + 1}", Down(width))
        self.latent = chain(blocks[-1], block, widths[-1], heads[-1])
        for level in range(self.levels - 1, 0, -1):
            width = widths[level - 1]
            self.add_module(f"up{level + 1}_{level}", Up(2 * width))
            if level > 1:
                self.add_module(f"reduce_chan_level{level}", pointwise(2 * width, width))
            decoded = width if level > 1 else 2 * width
            self.add_module(f"decoder_level{level}", chain(blocks[level - 1], block, decoded, heads[level - 1]))
        self.refinement: nn.Module = nn.Identity()
        self.output = spatial(2 * dim, 3)

    @property
    def last(self) -> nn.Conv2d:
        """The last convolution, before the image is added."""
        return self.output

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 3, H, W], any H and W; padded inside to a multiple of 2^(levels - 1)."""
        check_image(image)
        height, width = image.shape[-2:]
        pad = reflect_to_multiple if self.reflect else pad_to_multiple
        padded = pad(image, 1 << (self.levels - 1))
        x = self.encoder_level0(self.patch_embed(padded))
        skips = []
        for level in range(1, self.levels):
            x = self.get_submodule(f"encoder_level{level}")(x)
            skips.append(x)
            x = self.get_submodule(f"down{level}_{level + 1}")(x)
        x = self.latent(x)
        for level in range(self.levels - 1, 0, -1):
            x = torch.cat([self.get_submodule(f"up{level + 1}_{level}")(x), skips.pop()], 1)
            if level > 1:
                x = self.get_submodule(f"reduce_chan_level{level}")(x)
            x = self.get_submodule(f"decoder_level{level}")(x)
        return cut(self.output(self.refinement(x)) + padded, height, width)


def pad_by_reflection(derainer: nn.Module) -> None:
    """Let a derainer pad as its published weights are judged; one whose authors never pad stays as it is."""
    if isinstance(derainer, UNetOfBlocks):
        derainer.reflect = derainer.sizes["reflect"] = True


def check_levels(dim: int, blocks: Sequence[int], heads: Sequence[int]) -> None:
    """Refuse sizes that no U-net of blocks can have.

    Raises:
        ValueError: the message names them.
    """
    if len(blocks) != len(heads) or len(blocks) < 2:
        raise ValueError(f"blocks and heads must name the same levels, two at least, got {blocks} and {heads}")
    if dim < 2 or dim % 2 or any(count < 1 or (dim << level) % count for level, count in enumerate(heads)):
        raise ValueError(f"dim {dim} must be even, and its heads {heads} must divide the channels of their levels")


def chain(count: int, block: Callable[[int, int], Block], channels: int, heads: int) -> Blocks:
    """So many blocks of a level."""
    return Blocks(*(block(channels, heads) for _ in range(count)))


def pointwise(channels_in: int, channels: int) -> nn.Conv2d:
    """A 1x1 convolution without bias."""
    return nn.Conv2d(channels_in, channels, 1, bias=False)


def spatial(channels_in: int, channels: int) -> nn.Conv2d:
    """A 3x3 convolution without bias that keeps the size."""
    return nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)


class DepthwiseConv2d(nn.Conv2d):
    """A convolution of each channel by itself, without bias, that keeps the size; a gate halves the channels."""

    def __init__(self, channels: int, taps: int, dilation: int) -> None:
        padding = taps // 2 * dilation
        super().__init__(channels, channels, taps, padding=padding, dilation=dilation, groups=channels, bias=False)

    def forward(self, x: Tensor, gate: Gate = "none") -> Tensor:
        """[N, C, H, W] -> the same, or with a gate, of layers that are not dilated, [N, C / 2, H, W]."""
        return super().forward(x) if self.dilation != (1, 1) else dconv(x, self, gate)


def depthwise(channels: int, taps: int = 3, dilation: int = 1) -> DepthwiseConv2d:
    """A convolution of each channel by itself, without bias, that keeps the size."""
    return DepthwiseConv2d(channels, taps, dilation)


Depthwise = Callable[[int], nn.Module]


def reflect_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad right and bottom by reflection until height and width are multiples; [N, C, H, W], of any size.

    By index, so that exporters see one formula; an image of fewer pixels than are padded repeats its first ones.
    """
    for axis in (2, 3):
        side = image.shape[axis]
        places = torch.arange((side + multiple - 1) // multiple * multiple, device=image.device)
        image = image.index_select(axis, torch.where(places < side, places, (2 * (side - 1) - places).clamp_min(0)))
    return image
