"""Penalties on a removed layer that is not plausibly rain, so that a score cannot be gamed."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..ops import RemovedLayer, removed_layer
from ..ops.reward_candidate import describe_layer


@dataclass(frozen=True)
class Plausibility:
    """Weights of the three penalties, in score units per unit of intensity ([0, 1] images)."""

    spread: float = 50.0  # the layer is coloured, rain is grey
    low_frequency: float = 50.0  # the layer changes large areas, rain is thin
    negative: float = 200.0  # the layer is darker than the background, rain adds light

    def penalty(self, rainy: Tensor, derained: Tensor) -> Tensor:
        """How implausible the layer r = rainy - derained is; 0 for nothing removed.

        spread * mean(|r_R - r_G| + |r_G - r_B| + |r_B - r_R|) + low_frequency * mean|box15(r)|
        + negative * mean(max(-r, 0)), means over pixels (and channels in the last two); method, section 4.

        Args:
            rainy: the input of the derainer, [N, 3, H, W], in [0, 1].
            derained: its output, same shape and range.

        Returns:
            The penalty of each image, [N] float32, to be subtracted from a score.
        """
        return self.of(removed_layer(rainy.float(), derained.float()))

    def differentiable(self, rainy: Tensor, derained: Tensor) -> Tensor:
        """`penalty` with its gradient to `derained`, [N] float32, in plain PyTorch."""
        return self.of(describe_layer(rainy.float(), derained.float()))

    def of(self, layer: RemovedLayer) -> Tensor:
        """The penalty of layers that were described, [N] float32."""
        spread, low_frequency = self.spread * layer.spread, self.low_frequency * layer.low_frequency
        return spread + low_frequency + self.negative * layer.negative
