"""The gallery of a run on labelled pairs: a few of each type, and its figures by type of rain."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

import torch

from ..config.figures import FIGURES
from ..config.rain_types import RAIN_TYPES
from ..data import evenly, to_batch
from ..iqa.metrics import psnr
from ..networks import evaluating
from ..networks.derainers.moe import MoENet
from ..runs.html.page import Panel, Row, figures, rows, section
from .validation import derain_whole

LARGEST = 512  # pixels each way of an image that the routing table looks at

if TYPE_CHECKING:
    from .trainer import Trainer


def labelled_images(trainer: Trainer, most: int) -> str:
    """The section of pairs that steps draw from: rainy, derained and clean, of each type as many."""
    pairs = trainer.domains.pairs
    if pairs is None:
        return ""
    count = len(pairs.training)
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
            yield Row(f"{pairs.rainy.names[place]} ({pairs.kind_of(pair) or 'unknown type'})", panels)


def routing(trainer: Trainer) -> str:
    """The section of what experts see which type: mean shares over validation images; nothing without experts."""
    derainer = trainer.derainer
    if not isinstance(derainer, MoENet) or not trainer.step or not trainer.domains.val:
        return ""
    by_type: dict[str, list[dict[str, list[float]]]] = {}
    with evaluating(derainer):
        for pair in trainer.domains.val:
            image = to_batch(pair.rainy, trainer.device)[..., :LARGEST, :LARGEST]
            by_type.setdefault(pair.kind or "all", []).append(derainer.shares_of(image))
    heads = [(level, i) for level, shares in next(iter(by_type.values()))[0].items() for i in range(len(shares))]
    lines = ["".join(f"<th>{escape(level)}, {i + 1}</th>" for level, i in heads)]
    for kind, some in by_type.items():
        means = [sum(shares[level][i] for shares in some) / len(some) for level, i in heads]
        cells = (f'<td style="background:rgba(230,120,0,{share:.2f})">{100 * share:.0f} %</td>' for share in means)
        lines.append(f"<td>{escape(kind)}</td>{''.join(cells)}")
    table = "".join(f"<tr>{line if i else '<th></th>' + line}</tr>" for i, line in enumerate(lines))
    text = "Mean share that the router gives each expert, by type of rain. Equal rows: it tells no types apart."
    return section("Experts", text, f'<div style="overflow-x:auto"><table>{table}</table></div>')


def type_figures(metrics: dict[str, Any]) -> str:
    """The section of figures by type of rain; nothing where no type is told."""
    table = {
        f"{kind}: {told}": {column: metrics[f"{key}_{kind}"] for key, column in FIGURES.items()}
        for kind, told in RAIN_TYPES.items()
        if f"psnr_rgb_{kind}" in metrics
    }
    if not table:
        return ""
    told = {"types_mean": "mean over types, PSNR-RGB", "types_spread": "best type less worst, PSNR-RGB"}
    tiles = {label: f"{metrics[name]:.2f} dB" for name, label in told.items() if name in metrics}
    return figures("Figures by type of rain", table, tiles, "Means over the validation images of a type.")
