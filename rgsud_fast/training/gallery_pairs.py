"""The gallery of a run on labelled pairs: a few of each type, and its figures by type of rain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from ..config.figures import FIGURES
from ..config.rain_types import RAIN_TYPES
from ..data import evenly, to_batch
from ..iqa.metrics import psnr
from ..runs.html.page import Panel, Row, figures, rows
from .validation import derain_whole

if TYPE_CHECKING:
    from .trainer import Trainer


def labelled_images(trainer: Trainer, most: int) -> str:
    """The section of pairs that steps draw from: rainy, derained and clean, of each type as many."""
    pairs = trainer.domains.pairs
    if pairs is None:
        return ""
    count = len(pairs.trained)
    text = f"{min(most, count)} of {count} pairs that are trained on, of each type as many: rainy, derained, clean."
    return rows("Labelled pairs", list(_rows(trainer, most)), text)


@torch.no_grad()
def _rows(trainer: Trainer, most: int) -> Iterator[Row]:
    pairs = trainer.domains.pairs
    assert pairs is not None
    for members in pairs.by_type.values():
        for pair in (members[i] for i in evenly(len(members), max(most // len(pairs.by_type), 1), last=False)):
            place, partner = pairs.places[pair]
            rainy, clean = to_batch(pairs.rainy[place]), to_batch(pairs.clean[partner])
            panels = [Panel("rainy", rainy[0], f"{psnr(rainy, clean).item():.2f} dB")]
            if trainer.step:  # else by a network that has learned nothing
                derained = derain_whole(trainer.derainer, rainy, trainer.device)
                panels.append(Panel("derained", derained[0], f"{psnr(derained, clean).item():.2f} dB"))
            panels.append(Panel("clean", clean[0]))
            yield Row(pairs.rainy.names[place], panels, outcome=pairs.kind_of(pair) or "unknown type")


def type_figures(metrics: dict[str, Any]) -> str:
    """The section of figures by type of rain; nothing where no type is told."""
    table = {
        f"{kind}: {told}": {column: metrics[f"{key}_{kind}"] for key, column in FIGURES.items()}
        for kind, told in RAIN_TYPES.items()
        if f"psnr_rgb_{kind}" in metrics
    }
    if not table:
        return ""
    spread = metrics.get("types_spread")
    tiles = {} if spread is None else {"best type less worst, PSNR-RGB": f"{spread:.2f} dB"}
    return figures("Figures by type of rain", table, tiles, "Means over the validation images of a type.")
