"""Is what the derainer removed plausibly rain? Penalties on the removed layer, so that a score cannot be gamed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

WINDOW = 15  # pixels; wider than a streak, so rain averages out to little and a change of brightness does not


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
        layer = rainy.float() - derained.float()  # [N, 3, H, W], in [-1, 1]
        red, green, blue = layer.unbind(1)
        spread = (red - green).abs() + (green - blue).abs() + (blue - red).abs()
        return (
            self.spread * spread.mean((1, 2))
            + self.low_frequency * box_mean(layer).abs().mean((1, 2, 3))
            + self.negative * (-layer).clamp_min(0).mean((1, 2, 3))
        )


def box_mean(image: Tensor, window: int = WINDOW) -> Tensor:
    """Average each pixel over a square window, over its part inside the image at borders.

    Two products with banded matrices: half the time of two average pools at 480 x 320 on two cores.

    Args:
        image: [N, C, H, W], any H and W.
        window: side in pixels, odd.

    Returns:
        The local means, same shape.
    """
    return _averaging(image.shape[-2], window, image) @ (image @ _averaging(image.shape[-1], window, image).T)


def _averaging(size: int, window: int, like: Tensor) -> Tensor:
    """The [size, size] matrix whose row i averages the entries within window // 2 of i."""
    index = torch.arange(size, device=like.device)
    inside = ((index[:, None] - index).abs() <= window // 2).to(like.dtype)
    return inside / inside.sum(1, keepdim=True)
