"""Restormer (Zamir et al., CVPR 2022): blocks whose attention is over channels, in a U-net."""

from __future__ import annotations

from collections.abc import Sequence

from .transformer import Attention, Block, FeedForward, UNetOfBlocks, chain, depthwise


class Restormer(UNetOfBlocks):
    """Remove rain from an image: Restormer with a global residual.

    26,126,644 parameters at the defaults, under the names of the published files.

    Args:
        dim: channels at full resolution, even; doubled per level.
        blocks: blocks per level, the bottom last.
        refinement: blocks after the decoder, at full resolution.
        heads: heads per level, which divide its channels.
        expansion: hidden channels of a feed-forward by those of its block, rounded down.
        norm_bias: whether normalisations take the mean away and shift.
        reflect: pad by reflection, as the published weights are judged; else with zeros.
    """

    def __init__(
        self,
        dim: int = 48,
        blocks: Sequence[int] = (4, 6, 6, 8),
        refinement: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        expansion: float = 2.66,
        norm_bias: bool = True,
        reflect: bool = False,
    ) -> None:
        def block(channels: int, count: int) -> Block:
            attention = Attention(channels, count, depthwise)
            return Block(channels, attention, FeedForward(channels, int(expansion * channels), depthwise), norm_bias)

        super().__init__(dim, blocks, heads, block, reflect)
        self.refinement = chain(refinement, block, 2 * dim, heads[0])
        self.sizes = {"dim": dim, "blocks": list(blocks), "refinement": refinement}
        self.sizes |= {"heads": list(heads), "expansion": expansion, "norm_bias": norm_bias, "reflect": reflect}
