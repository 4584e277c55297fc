"""What was painted onto clean images, asked whether it can be rain: a weak run's is a veil, halos or another scene."""

from __future__ import annotations

import statistics
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from ..iqa.metrics import rounded_to_8_bits
from ..ops import removed_layer

FAINT = 1e-3  # mean of a layer below which it is none: a quarter of one of 256 levels
DARKER, COLOURED, THIN = 0.05, 1.0, 0.25
BOX = 15  # pixels, wider than a streak


class Layer(NamedTuple):
    """One painted layer r = painted - clean; all but the first are shares of it."""

    size: float  # mean |r|
    darker: float  # mean max(-r, 0): rain adds light
    coloured: float  # mean |r_R - r_G| + |r_G - r_B| + |r_B - r_R|: rain is grey
    thin: float  # mean |g - box15(g)| with g the mean of r over channels: rain is thinner than a box


class PaintedRain:
    """The layers painted so far, and whether their medians are those of rain.

    The limits were chosen on eight clean photographs with rain of Rain100L and of real photographs (medians; true rain
    is that of 12 pairs of Rain100L):

    | layer | darker | coloured | thin |
    |---|---|---|---|
    | true rain | 0.00 | 0.07 | 1.23 |
    | pasted by runs of 34.1 dB, `small`, and 34.8 dB, `medium` | 0.00 | 0.04 to 0.07 | 0.34 to 0.88 |
    | pasted after 400 iterations | 0.00 | 0.04 to 0.06 | 0.85 to 0.95 |
    | pasted after 200 iterations of `demo`: an even veil | 0.00 | 0.04 | 0.10 to 0.17 |
    | a generator after 260 iterations: halos | 0.10 to 0.13 | 0.16 | 0.75 |
    | a generator after 760 iterations of `small-gan`: another scene's ghosts | 0.86 to 0.90 | 0.05 | 0.45 to 0.51 |
    | a generator after 2 iterations: brightness | 0.00 | 1.88 | 0.10 to 0.11 |

    No generator that was trained to its end was at hand. A weak run whose paint keeps within the limits is not told.
    The penalty of `iqa.Plausibility` itself does not serve here: it grows with the rain (true rain 0.6 to 1.9, the
    ghosts 2.3 to 4.4, the veil 0.9 to 1.1).
    """

    def __init__(self) -> None:
        self.layers: list[Layer] = []

    def add(self, painted: Tensor, clean: Tensor) -> None:
        """Take one image into account.

        Args:
            painted: what was painted, [1, 3, H, W], in [0, 1].
            clean: what it was painted onto, same shape.
        """
        rainy, background = (rounded_to_8_bits(image).float() for image in (painted, clean))  # as they are written
        layer = removed_layer(rainy, background)
        grey = (rainy - background).mean(dim=1, keepdim=True)
        box = F.avg_pool2d(grey, BOX, stride=1, padding=BOX // 2, count_include_pad=False)
        size = float(layer.removed)
        share = 1 / max(size, FAINT)
        thin = float((grey - box).abs().mean())
        self.layers.append(Layer(size, float(layer.negative) * share, float(layer.spread) * share, thin * share))

    def doubt(self) -> str:
        """Why the layers may be no rain, in one line; "" where they may be."""
        if not self.layers:
            return ""
        size, darker, coloured, thin = (statistics.median(values) for values in zip(*self.layers, strict=True))
        if size < FAINT:
            return "hardly anything was painted: this run takes next to no rain from these photographs"
        found = {
            f"darkens ({darker:.0%} of it)": darker > DARKER,
            f"is coloured (its channels differ by {coloured:.1f} times it)": coloured > COLOURED,
            f"is an even veil, not streaks (only {thin:.0%} is thin)": thin < THIN,
        }
        told = " and ".join(text for text, is_so in found.items() if is_so)
        mend = "look at the pairs before you train with them, or train the run for longer"
        return f"what was painted can hardly be rain, since it {told}: {mend}" if told else ""
