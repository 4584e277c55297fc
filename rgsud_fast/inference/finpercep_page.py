"""The page of a fitted FinPercep-RM: what it was to find and what it finds, on photographs that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..data import to_batch
from ..data.image_files import to_bytes
from ..iqa import FinpercepScorer
from ..iqa.finpercep.figures import scores_and_maps
from ..iqa.finpercep.generated import Material, Triplet, draw_batch
from ..runs.html.heat import LEGEND, heat
from ..runs.html.page import Panel, Row, figures, rows, write_gallery

SHOWN = 12
COLUMNS = {
    "auc_swapped": "map AUC, swapped regions",
    "auc_whole": "map AUC, whole results",
    "clean_over_swapped": "clean above swapped",
    "clean_over_spoiled": "where 1 % is spoiled",
    "swapped_over_weak": "swapped above weak",
}


def write_page(
    path: Path,
    scorer: FinpercepScorer,
    held_out: Material,
    measured: dict[str, Any],
    own: Sequence[Triplet] = (),
    practised: Sequence[Triplet] = (),
) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        scorer: in its last stage.
        held_out: photographs that it has not seen.
        measured: the figures; see `fit_finpercep.measure`.
        own: crops that a run's derainer made: clean, rainy, derained.
        practised: the same of derainers that practised for the fit, shown where no run is.
    """
    table = {f"stage {stage}": {COLUMNS[key]: row[key] for key in COLUMNS} for stage, row in measured["stages"].items()}
    hacks = {f"faults found: {name}": f"{100 * share:.0f} %" for name, share in measured["hacks_found"].items()}
    write_gallery(
        path,
        f"FinPercep-RM {path.stem}",
        figures("Figures", table, hacks, "On photographs that were held out of the fit; 1 is the best."),
        rows("Swapped regions", _swapped(scorer, held_out), f"The truth and what is found: {LEGEND}."),
        _of_derainers(scorer, "Results of the run's derainer", own)
        or _of_derainers(scorer, "Results of derainers that practised", practised),
        subtitle=f"size {measured['size']} · {measured['iterations']:,} iterations · seed {measured['seed']}",
    )


def _swapped(scorer: FinpercepScorer, held_out: Material) -> list[Row]:
    batch = draw_batch(held_out, 3, 0, SHOWN, max(scorer.side, 128))
    scores, spoiled = scores_and_maps(scorer, batch.swapped, batch)
    shown = []
    for i in range(SHOWN):
        clean, swapped = (to_bytes(image[i]) for image in (batch.clean, batch.swapped))
        panels = [
            Panel("truth", clean),
            Panel("with a faulty region", swapped, f"score {float(scores[i]):.3f}"),
            Panel("true map", _overlay(swapped, batch.swapped_truth[i])),
            Panel("where it is spoiled", _overlay(swapped, spoiled[i])),
        ]
        shown.append(Row(f"sample {i + 1}", panels))
    return shown


def _of_derainers(scorer: FinpercepScorer, title: str, made: Sequence[Triplet]) -> str:
    return rows(title, _own(scorer, made), f"Where they are spoiled: {LEGEND}.") if made else ""


def _own(scorer: FinpercepScorer, own: Sequence[Triplet]) -> list[Row]:
    shown = []
    device = scorer.reference.device
    for number, (clean, rainy, derained) in enumerate(own, 1):
        score, spoiled = scorer.score_and_map(to_batch(derained, device), to_batch(rainy, device))
        panels = [
            *(Panel("rainy", rainy), Panel("derained", derained, f"score {float(score):.3f}")),
            *(Panel("where it is spoiled", _overlay(derained, spoiled[0].cpu())), Panel("truth", clean)),
        ]
        shown.append(Row(f"result {number}", panels))
    return shown


def _overlay(image: np.ndarray, spoiled: Tensor) -> np.ndarray:
    return heat(image, spoiled[0].numpy())
