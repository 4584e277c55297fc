"""NeRD-Rain (Chen, Pan, Dong, CVPR 2024): Restormer's blocks at three scales, joined by neural representations.

As published a representation sees no coordinates: 18 of its inputs are 0 at every pixel, two are 2. So here it is what
it computes, a 3x3 convolution and three 1x1, and `unfold_inr` makes the published tensors of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.gated_dconv import Gate
from .._common import check_image, cut, pad_to_multiple
from .transformer import (
    Attention,
    Block,
    Down,
    FeedForward,
    Patches,
    Up,
    chain,
    check_levels,
    depthwise,
    pointwise,
    spatial,
)

# The passes of U-nets, by what their blocks are called in the published files, and their ways between levels.
PASSES = {"small": "small", "mid1": "mid", "mid2": "mid2", "max1": "max", "max2": "max2", "max3": "max3"}
INRS = ("INR", "INR2")
UNSEEN = 20  # inputs of a published representation beside its neighbourhood: 18 coordinates, two sizes of a cell
CELL = 2.0  # what those last two are, always


class NeRDRain(nn.Module):
    """Remove rain from an image: NeRD-Rain with a global residual.

    With the unseen columns of the published tensors 22,893,146 parameters at the defaults, 10,530,314 at dim 32, which
    is NeRD-Rain-S.

    Args:
        dim: channels at full resolution, even; doubled per level.
        blocks: blocks per level, the bottom last.
        heads: heads per level, which divide its channels.
        expansion: hidden channels of a feed-forward by those of its block, rounded down.
        hidden: channels inside a representation.
    """

    def __init__(
        self,
        dim: int = 48,
        blocks: Sequence[int] = (2, 3, 3),
        heads: Sequence[int] = (1, 2, 4),
        expansion: float = 2.66,
        hidden: int = 256,
    ) -> None:
        super().__init__()
        check_levels(dim, blocks, heads)
        self.sizes: dict[str, Any] = {"dim": dim, "blocks": list(blocks), "heads": list(heads)}
        self.sizes |= {"expansion": expansion, "hidden": hidden}
        self.levels = len(blocks)
        widths = [dim << level for level in range(self.levels)]

        def block(channels: int, count: int) -> Block:
            feed_forward = FeedForward(channels, int(expansion * channels), _Depthwise)
            return Block(channels, Attention(channels, count, _Depthwise), feed_forward)

        def add(part: str, level: int, name: str) -> None:
            self.add_module(f"{part}_{name}", chain(blocks[level], block, widths[level], heads[level]))

        for scale in ("small", "mid", "max"):
            self.add_module(f"patch_embed_{scale}", Patches(dim))
            self.add_module(f"output_{scale}", spatial(dim, 3))
        for name, ways in PASSES.items():
            for level, width in enumerate(widths[:-1]):
                add(f"encoder_level{level + 1}", level, name)
                self.add_module(f"down{level + 1}_{level + 2}_{ways}", Down(width))
                self.add_module(f"up{level + 2}_{level + 1}_{ways}", Up(2 * width))
                unused = name == "max3" and not level
                self.add_module(
                    f"reduce_chan_level{level + 1}_{name}", _Unused(width) if unused else pointwise(2 * width, width)
                )
                add(f"decoder_level{level + 1}", level, name)
            add("latent", self.levels - 1, name)
        for name in ("output_mid_context", "output_max_context1", "output_max_context2"):
            self.add_module(name, spatial(dim, dim))
        for name in ("BF1", "BF2", "BF3"):
            self.add_module(name, Fusion(widths[-1]))
        for ways in ("upsmall2mid", "upmid2max"):
            for step, width in enumerate(reversed(widths[1:]), 1):
                self.add_module(f"{ways}{step}", Up(width))
        for name in INRS:
            self.add_module(name, Representation(dim, hidden))

    @property
    def last(self) -> nn.Conv2d:
        """The last convolution, before the image is added."""
        return cast(nn.Conv2d, self.output_max)

    def forward(self, image: Tensor, coarse: bool = False) -> Any:
        """[N, 3, H, W] -> [N, 3, H, W], any H and W; padded inside to a multiple of 2^(levels + 1).

        With `coarse` a list of this, the image at half the size, and at a quarter, rounded up.
        """
        check_image(image)
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, 2 << self.levels)
        large, middle, small = self._features(padded)
        made = cut(self.last(large) + padded, height, width)
        if not coarse:
            return made
        half = halved(padded)
        images = [self._run("output_mid", middle) + half, self._run("output_small", small) + halved(half)]
        return [made, *(cut(one, -(-height // 2**level), -(-width // 2**level)) for level, one in enumerate(images, 1))]

    def _features(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the last convolutions get: from coarse to fine the images, from fine to coarse the latents, and back."""
        middle = halved(image)
        small = halved(middle)
        s = self._encode(self._run("patch_embed_small", small), "small")
        small = small + self._image("INR", "upsmall2mid", s.latent)
        middle = middle + doubled(small)
        m1 = self._encode(self._run("patch_embed_mid", middle), "mid1")
        middle = middle + self._image("INR2", "upmid2max", m1.latent)

        x1 = self._encode(self._run("patch_embed_max", image + doubled(middle)), "max1")
        x2 = self._encode(self._run("output_max_context1", self._decode(x1, "max1")), "max2")
        x3 = self._encode(self._run("output_max_context2", self._decode(x2, "max2")), "max3")

        fused = m1._replace(latent=m1.latent + halved(self._run("BF1", x1.latent, x2.latent)))
        m2 = self._encode(self._run("output_mid_context", self._decode(fused, "mid1")), "mid2")
        s = s._replace(latent=s.latent + halved(self._run("BF3", m1.latent, m2.latent)))
        m2 = m2._replace(latent=m2.latent + halved(self._run("BF2", x2.latent, x3.latent)))

        coarsest = self._decode(s, "small")
        coarse = self._decode(m2, "mid2") + doubled(coarsest)
        return self._decode(x3, "max3") + doubled(coarse), coarse, coarsest

    def _encode(self, x: Tensor, name: str) -> Encoded:
        skips = []
        for level in range(1, self.levels):
            x = self._run(f"encoder_level{level}_{name}", x)
            skips.append(x)
            x = self._run(f"down{level}_{level + 1}_{PASSES[name]}", x)
        return Encoded(self._run(f"latent_{name}", x), skips)

    def _decode(self, encoded: Encoded, name: str) -> Tensor:
        x = encoded.latent
        for level in range(self.levels - 1, 0, -1):
            x = self._run(f"up{level + 1}_{level}_{PASSES[name]}", x)
            x = torch.cat([x, encoded.skips[level - 1]], 1)
            # As published the third decoder goes through the second's convolution, and its own is never used.
            reduced = "max2" if name == "max3" and level == 1 else name
            x = self._run(f"reduce_chan_level{level}_{reduced}", x)
            x = self._run(f"decoder_level{level}_{name}", x)
        return x

    def _run(self, part: str, *given: Tensor) -> Tensor:
        return cast(Tensor, self.get_submodule(part)(*given))

    def _image(self, inr: str, ways: str, latent: Tensor) -> Tensor:
        """The image that a representation makes of a latent, at its scale's full resolution."""
        for step in range(1, self.levels):
            latent = self._run(f"{ways}{step}", latent)
        return self._run(inr, latent)


class Encoded(NamedTuple):
    """What a pass has made of its input."""

    latent: Tensor
    skips: list[Tensor]  # per level, the full resolution first


class Representation(nn.Module):
    """A representation without coordinates: 3x3 convolution, ReLU, 1x1, ReLU, 1x1, ReLU, 1x1 to an image."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU()]
        for _ in range(2):
            layers += [nn.Conv2d(hidden, hidden, 1), nn.ReLU()]
        self.imnet = nn.ModuleDict({"layers": nn.Sequential(*layers, nn.Conv2d(hidden, 3, 1))})

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.imnet["layers"](x))


class Fusion(nn.Module):
    """Two latents as one: a = sigmoid(3x3(x) 3x3(y)), and x, x a, y, y a added by gates that each pair gives."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.key_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.gamma1 = nn.Conv2d(2 * channels, 2, 3, padding=1)
        self.gamma2 = nn.Conv2d(2 * channels, 2, 3, padding=1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        alike = torch.sigmoid(self.query_conv(x) * self.key_conv(y))
        return _gated(x, x * alike, self.gamma1) + _gated(y, y * alike, self.gamma2)


def _gated(a: Tensor, b: Tensor, gates: nn.Module) -> Tensor:
    first, second = gates(torch.cat([a, b], 1)).chunk(2, 1)
    return cast(Tensor, a * first + b * second)


class _Depthwise(nn.Module):
    """The depthwise convolution, one name deeper than Restormer's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(depthwise(channels))

    def forward(self, x: Tensor, gate: Gate = "none") -> Tensor:
        return cast(Tensor, self.main[0](x, gate))


class _Unused(nn.Module):
    """Weights that files hold and nothing uses, so that nothing trains them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(channels, 2 * channels, 1, 1))


def halved(x: Tensor) -> Tensor:
    """Every second pixel, as nearest sampling at half the size takes them."""
    return x[..., ::2, ::2]


def doubled(x: Tensor) -> Tensor:
    """Every pixel four times."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def fold_inr(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published tensors as ours: the representations' matrices as convolutions, what never changes in the bias."""
    ours = dict(tensors)
    for layer in (f"{name}.imnet.layers.{i}" for name in INRS for i in (0, 2, 4, 6)):
        weight = tensors.get(f"{layer}.weight")
        if weight is None or weight.ndim != 2:
            continue
        if layer.endswith(".0"):
            bias = tensors[f"{layer}.bias"]
            if bias.shape != weight.shape[:1]:
                raise ValueError(f"{layer}.bias {list(bias.shape)} beside a weight {list(weight.shape)}")
            ours[f"{layer}.bias"] = bias + CELL * weight[:, -2:].sum(1)
            weight = weight[:, :-UNSEEN].unflatten(1, (-1, 3, 3))
        ours[f"{layer}.weight"] = weight if weight.ndim == 4 else weight[..., None, None]
    return ours


def unfold_inr(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse, with zeros for the columns of what the published code never shows."""
    theirs = dict(tensors)
    for layer in (f"{name}.imnet.layers.{i}" for name in INRS for i in (0, 2, 4, 6)):
        matrix = tensors[f"{layer}.weight"].flatten(1)
        theirs[f"{layer}.weight"] = F.pad(matrix, (0, UNSEEN)) if layer.endswith(".0") else matrix
    return theirs
