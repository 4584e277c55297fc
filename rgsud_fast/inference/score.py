"""Scoring image files without ground truth, and fitting NIQE's model to good photographs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..data import list_images, read_image, write_image
from ..data.image_files import to_bytes
from ..errors import UserError
from ..iqa import FinpercepScorer, NiqeScorer, Scorer, fit_niqe_model, open_scorer, save_scorer
from ..iqa.judge import with_maps
from ..runs.html.heat import heat
from ..system.device import pick_device
from ..system.names import takes_home
from .inputs import ImageWatch, Source, gather, partners, size_of
from .left_out import LeftOut
from .outputs import targets_of


@takes_home
def score_files(
    images: str | Path,
    metric: str | Path,
    clean: str | Path | None = None,
    *,
    rainy: str | Path | None = None,
    maps: str | Path | None = None,
    stage: int | None = None,
    device: str = "auto",
    watch: ImageWatch | None = None,
) -> dict[str, Any]:
    """Score an image or every image of a folder; higher is better.

    Args:
        images: image or folder, searched recursively.
        metric: a run folder or its scorer.safetensors, NIQE's published parameters (.npz), a file of `fit_niqe`, or a
            name that `iqa.make_scorer` takes and that needs no fitting; an ensemble ranks among these very images.
        clean: clean versions of the images, matched by file name (see `data.pairing.match_names`).
        rainy: the inputs that the images were derained from, matched alike; then what was removed counts, too.
        maps: folder that gets a PNG of each image with heat where it is spoiled; for a score that knows it.
        stage: 0 to 3, of FinPercep-RM; default: its last.
        device: auto, cpu, cuda or cuda:N.
        watch: called after each image.

    Returns:
        `metric`, its name; `images`, one dict per image with `name`, `score` and, where there are clean versions,
        `clean_score`, and with maps `spoiled`, the mean of its map; `mean` of the finite scores (None without any);
        with clean versions `pairs`, how many could be judged, and `validity`, the share of these whose clean image
        scores higher (None without any). The score of an image that cannot be judged is None.

    Raises:
        UserError: missing or wrong files, pairs that do not match, or a score without maps or stages.
    """
    where = pick_device(device)
    inputs = gather(images)
    wets = partners(inputs, gather(rainy), ("images", "rainy")) if rainy is not None else []
    cleans = gather(clean) if clean is not None else []
    truths = partners(inputs, cleans) if clean is not None else []
    scorer = open_scorer(metric, where, _Photographs([source.path for source in [*inputs, *cleans] if source.path]))
    if stage is not None:
        _set_stage(scorer, stage)
    targets = [] if maps is None else targets_of(inputs, [], Path(maps))
    mapped = with_maps(scorer) if maps is not None else None
    rows: list[dict[str, Any]] = []
    left_out = LeftOut()
    for i, source in enumerate(inputs):
        with left_out.unless(bool(truths) or len(inputs) == 1, source.name):
            image = source.load()
            wet = _partner_of(image, source, wets[i], i).to(where) if wets else None
            row: dict[str, Any] = {"name": source.name}
            if mapped is None:
                row["score"] = float(scorer.score(image.to(where), wet)[0])
            else:
                score, spoiled = mapped.score_and_map(image.to(where), wet)
                row |= {"score": float(score[0]), "spoiled": float(spoiled.mean())}
                write_image(targets[i][0], heat(to_bytes(image[0]), spoiled[0, 0].cpu().numpy()))
            if truths:
                truth = _partner_of(image, source, truths[i], i)
                row["clean_score"] = float(scorer.score(truth.to(where))[0])
            rows.append(row)
        if watch is not None:
            watch(i + 1, len(inputs), source.name)
    if not rows:
        left_out.tell("no image is scored")
    if left_out.reasons:
        warnings.warn(f"{len(rows)} images are scored, {left_out}", stacklevel=2)
    figures: dict[str, Any] = {"metric": scorer.name, "images": rows}
    if truths:
        judged = [row for row in rows if np.isfinite(row["score"]) and np.isfinite(row["clean_score"])]
        right = sum(row["clean_score"] > row["score"] for row in judged)
        figures |= {"pairs": len(judged), "validity": right / len(judged) if judged else None}
    for row in rows:
        row.update({key: None for key in ("score", "clean_score") if key in row and not np.isfinite(row[key])})
    scores = [row["score"] for row in rows if row["score"] is not None]
    return figures | {"mean": sum(scores) / len(scores) if scores else None}


@takes_home
def fit_niqe(images: str | Path, output: str | Path) -> int:
    """Learn NIQE's natural-image model from a folder of good photographs and write it to a safetensors file.

    Args:
        images: folder, searched recursively; at most 300 of its images are read.
        output: the file; `score_files` and `score` take it as their metric.

    Returns:
        How many photographs the folder holds.

    Raises:
        UserError: unusable folder, or too few sharp blocks for a model.
    """
    if Path(output).is_dir():
        raise UserError(f"{output} is a folder: give a file name such as niqe.safetensors")
    if Path(output).suffix == ".npz":
        raise UserError(f"{output}: a fitted model is written as safetensors; end the name in .safetensors")
    photographs = _Photographs(list_images(Path(images)))
    save_scorer(NiqeScorer(fit_niqe_model(photographs)), output)
    return len(photographs)


def _partner_of(image: Tensor, source: Source, partner: Source, place: int) -> Tensor:
    """The image that belongs to another, of the same size."""
    other = partner.load()
    if other.shape != image.shape:
        raise UserError(
            f"pair {place + 1}: {source.name} is {size_of(image)} pixels and {partner.name} {size_of(other)}; a pair "
            "is the same scene at the same size, matched by file name"
        )
    return other


def _set_stage(scorer: Scorer, stage: int) -> None:
    if not isinstance(scorer, FinpercepScorer):
        raise UserError(f"--stage is of finpercep, and {scorer.name} has no stages: leave it out")
    if not 0 <= stage <= len(scorer.networks):
        raise UserError(f"--stage {stage}: this file holds the stages 0 to {len(scorer.networks)}")
    scorer.stage = stage


class _Photographs(Sequence):
    """Image files as arrays, read when asked for."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index):
        return read_image(self.paths[index])
