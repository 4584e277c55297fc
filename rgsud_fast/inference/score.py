"""Scoring image files without ground truth, and fitting NIQE's model to good photographs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data import list_images, read_image
from ..errors import UserError
from ..iqa import NiqeScorer, fit_niqe_model, open_scorer, save_scorer
from ..system.device import pick_device
from ..system.names import takes_home
from .inputs import ImageWatch, gather, partners, size_of
from .left_out import LeftOut


@takes_home
def score_files(
    images: str | Path,
    metric: str | Path,
    clean: str | Path | None = None,
    *,
    device: str = "auto",
    watch: ImageWatch | None = None,
) -> dict[str, Any]:
    """Score an image or every image of a folder; higher is better.

    Args:
        images: image or folder, searched recursively.
        metric: a run folder or its scorer.safetensors, NIQE's published parameters (.npz), a file of `fit_niqe`, or a
            name that `iqa.make_scorer` takes and that needs no fitting; an ensemble ranks among these very images.
        clean: clean versions of the images, matched by file name (see `data.pairing.match_names`).
        device: auto, cpu, cuda or cuda:N.
        watch: called after each image.

    Returns:
        `metric`, its name; `images`, one dict per image with `name`, `score` and, where there are clean versions,
        `clean_score`; `mean` of the finite scores (None without any); with clean versions `pairs`, how many could be
        judged, and `validity`, the share of these whose clean image scores higher (None without any). The score of an
        image that cannot be judged is None.

    Raises:
        UserError: missing or wrong files, or pairs that do not match.
    """
    where = pick_device(device)
    inputs = gather(images)
    cleans = gather(clean) if clean is not None else []
    truths = partners(inputs, cleans) if clean is not None else []
    scorer = open_scorer(metric, where, _Photographs([source.path for source in [*inputs, *cleans] if source.path]))
    rows: list[dict[str, Any]] = []
    left_out = LeftOut()
    for i, source in enumerate(inputs):
        with left_out.unless(bool(truths) or len(inputs) == 1, source.name):
            image = source.load()
            row: dict[str, Any] = {"name": source.name, "score": float(scorer.score(image.to(where))[0])}
            if truths:
                truth = truths[i].load()
                if truth.shape != image.shape:
                    raise UserError(
                        f"pair {i + 1}: {source.name} is {size_of(image)} pixels and {truths[i].name} "
                        f"{size_of(truth)}; a pair is the same scene at the same size, matched by file name"
                    )
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


class _Photographs(Sequence):
    """Image files as arrays, read when asked for."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index):
        return read_image(self.paths[index])
