"""The derainer's weights at the best validation of a run so far, where `keep_weights` is best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn


class BestWeights:
    """The weights of the best validation, by the mean PSNR-RGB over types of rain where pairs have them.

    The mean over images would favour the type of which there are most.
    """

    def __init__(self) -> None:
        self.step, self.level = 0, -math.inf
        self.weights: dict[str, Any] = {}

    def offer(self, step: int, figures: Mapping[str, float], derainer: nn.Module) -> None:
        """Keep a copy of the weights where the figures of `validate` are better than all before."""
        level = level_of(figures)
        if level > self.level:  # of equals the first; never one that is not finite
            self.step, self.level = step, level
            self.weights = {name: value.detach().cpu().clone() for name, value in derainer.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"step": self.step, "level": self.level, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.step, self.level, self.weights = int(state["step"]), float(state["level"]), dict(state["weights"])


def level_of(figures: Mapping[str, float]) -> float:
    """What weights are chosen by: the mean of the types' PSNR-RGB, or of the images' where there are no two types."""
    return figures.get("types_mean", figures["psnr_rgb"])
