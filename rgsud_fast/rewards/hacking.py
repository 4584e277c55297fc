"""The alarm that a score is being gamed: rewards score ever higher while a metric that nobody trains on gets worse."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn

from ..data import Domains, evenly, to_batch
from ..errors import UserError
from ..iqa import NiqeModel, fit_niqe_model, niqe
from ..iqa.metrics import psnr
from ..networks import evaluating
from ..networks.tiles import run_tiled
from ..system.watch import Watch, nobody

READINGS = 4  # sweeps that are compared
IMAGES = 4  # that each reading measures
TOLERANCE = 0.02  # share of the held-out metric by which it may fall unnoticed: 0.5 dB of 25


class Reading(NamedTuple):
    """After one sweep: the mean of the best rewards' scores, and the held-out metric, higher is better."""

    score: float
    held_out: float


def drifting(readings: list[Reading]) -> bool:
    """Whether over the last READINGS sweeps the rewards' score rose every time and the held-out metric fell."""
    if len(readings) < READINGS:
        return False
    recent = readings[-READINGS:]
    rising = all(after.score > before.score for before, after in pairwise(recent))
    before = recent[0].held_out
    return rising and recent[-1].held_out < before - TOLERANCE * abs(before)


class HeldOutMetric:
    """A metric that takes no part in training: PSNR of validation pairs; without pairs minus NIQE of derained images.

    NIQE's natural-image model is fitted to the clean images. A run that is scored by NIQE, and one whose clean images
    are too small for a model, has no such metric without pairs.

    Args:
        domains: the images of the run.
        scored_by: name of the score that judges the rewards.
        device: where the derainer is.
        watch: told how far the fitting is.
    """

    def __init__(self, domains: Domains, scored_by: str, device: torch.device, watch: Watch = nobody) -> None:
        self.domains, self.device = domains, device
        self.name = "validation PSNR"
        self._model: NiqeModel | None = None
        if domains.val:
            return
        self.name = ""
        if "niqe" not in scored_by:
            try:
                self._model = fit_niqe_model(domains.clean, device, watch)
                self.name = "-NIQE"
            except UserError:  # too few sharp blocks
                pass

    @torch.no_grad()
    def measure(self, derainer: nn.Module) -> float | None:
        """The metric of a derainer on a few images; None where there is none."""
        if not self.name:
            return None
        domains, found = self.domains, []
        images = domains.val or domains.rainy
        with evaluating(derainer) as network:
            for index in evenly(len(images), IMAGES, last=False):
                pair = domains.val[index] if domains.val else None
                rainy = to_batch(pair.rainy if pair else domains.rainy[index], self.device)
                derained = run_tiled(network, rainy).clamp(0, 1)
                if pair:
                    found.append(psnr(derained, to_batch(pair.clean, self.device)))
                elif self._model is not None:
                    found.append(-niqe(derained, self._model))
        finite = torch.cat(found)
        finite = finite[torch.isfinite(finite)]
        return float(finite.mean()) if len(finite) else None


def readings_of(log: Iterable[dict]) -> list[Reading]:
    """The readings that a run's log holds since the last alarm or change of score; a resumed run goes on with them."""
    readings: list[Reading] = []
    for row in log:
        if row.get("event") in ("drift", "curriculum"):
            readings.clear()
        elif all(isinstance(row.get(name), (int, float)) for name in ("mean_score", "held_out")):
            readings.append(Reading(row["mean_score"], row["held_out"]))
    return readings
