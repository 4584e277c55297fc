"""Perceptual distances of a derained image from its ground truth, by pyiqa: LPIPS and DISTS, lower is better."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config.figures import DISTANCES
from ..errors import UserError, either, reason
from .from_pyiqa import create_metric
from .metrics import rounded_to_8_bits


class Distance:
    """One of `DISTANCES`.

    Args:
        name: which.
        device: where it runs.

    Raises:
        UserError: there is no such distance, or pyiqa or its weights are missing, which pyiqa loads from a hub at the
            first use.
    """

    def __init__(self, name: str, device: torch.device | str = "cpu"):
        if name not in DISTANCES:
            raise UserError(f"metrics: must be {either([*DISTANCES])}, got {name!r}")
        self.name = name
        self.metric = create_metric(f"metric {name}", name, device)
        self.device = torch.device(device)

    def between(self, derained: Tensor, clean: Tensor) -> float:
        """The distance of one image, or the mean over a batch, once both are rounded to 8 bits.

        Args:
            derained, clean: RGB, [N, 3, H, W] in [0, 1].

        Raises:
            UserError: it cannot compare them, such as images that are too small for its network.
        """
        both = [rounded_to_8_bits(image).float().to(self.device) for image in (derained, clean)]
        try:
            with torch.no_grad():
                pairs = zip(both[0].split(1), both[1].split(1), strict=True)
                return torch.stack([self.metric(x, y).float().mean() for x, y in pairs]).mean().item()
        except (RuntimeError, ValueError, AssertionError, IndexError) as error:
            raise UserError(f"{self.name} cannot compare images of {list(clean.shape)}: {reason(error)}") from None
