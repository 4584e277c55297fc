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
            - self.negative * layer.clamp_max(0).mean((1, 2, 3))
        )


def box_mean(image: Tensor, window: int = WINDOW) -> Tensor:
    """Average each pixel over a square window, over its part inside the image at borders.

    Running sums along one side, then the other: a fifth of the time of products with banded matrices at 480 x 320.

    Args:
        image: [N, C, H, W], any H and W.
        window: side in pixels, odd.

    Returns:
        The local means, same shape.
    """
    return _line_mean(_line_mean(image, window, 3), window, 2)


def _line_mean(image: Tensor, window: int, side: int) -> Tensor:
    size, reach = image.shape[side], window // 2
    sums = image.cumsum(side)
    before = torch.zeros_like(sums.narrow(side, 0, 1)).expand(*_with(sums.shape, side, reach + 1))
    after = sums.narrow(side, size - 1, 1).expand(*_with(sums.shape, side, reach))
    sums = torch.cat([before, sums, after], side)
    place = torch.arange(size, device=image.device)
    count = (place + reach + 1).clamp(max=size) - (place - reach).clamp(min=0)
    within = sums.narrow(side, window, size) - sums.narrow(side, 0, size)
    return within / (count if side == 3 else count[:, None]).to(image.dtype)


def _with(shape: torch.Size, side: int, size: int) -> list[int]:
    return [*shape[:side], size, *shape[side + 1 :]]
