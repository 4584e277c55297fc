"""Scores of images in memory or on disk, for Python; and maps of where they are spoiled, by a score that knows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeGuard, overload

import numpy as np
import torch
from torch import Tensor

from ..data import read_image, to_batch
from ..errors import UserError
from ..system.names import takes_home
from .factory import make_scorer, open_scorer
from .scorer import MappedScorer, Scorer, check_images

Judge = Scorer | Callable[[Tensor], object] | str | Path


@overload
def score(images: Any, scorer: Judge, rainy: Tensor | None = None, maps: Literal[False] = False) -> Tensor: ...
@overload
def score(images: Any, scorer: Judge, rainy: Tensor | None = None, *, maps: Literal[True]) -> tuple[Tensor, Any]: ...
@takes_home
def score(images: Any, scorer: Judge, rainy: Tensor | None = None, maps: bool = False) -> Any:
    """How good images look, without ground truth.

    Args:
        images: [N, 3, H, W] or [3, H, W] float RGB in [0, 1]; or uint8 [H, W, 3] arrays, or paths of image files, one
            or a list, of any sizes.
        scorer: a Scorer, a function of images, the path of a run, its `scorer.safetensors` or NIQE parameters, or a
            name that `make_scorer` takes and that needs no fitting.
        rainy: the inputs the images were derained from, [N, 3, H, W]; then what was removed must be plausible as rain.
            For tensors only.
        maps: also return where the images are spoiled; for a score that knows it, such as `finpercep:FILE`.

    Returns:
        [N] float32, higher is better; a non-finite score means that the image cannot be scored. With `maps` also
        [N, 1, H, W] in [0, 1], 1 = spoiled, on the images' device; of arrays and paths a list of [1, 1, H, W].

    Raises:
        UserError: no such scorer or image file, or a score without maps. ValueError: images of another form.
    """
    if isinstance(scorer, (str, Path)):
        scorer = open_scorer(scorer, images.device if isinstance(images, Tensor) else "cpu")
    scorer = make_scorer(scorer, (), ())
    if isinstance(images, Tensor):
        images = images[None] if images.dim() == 3 else images
        rainy = rainy[None] if rainy is not None and rainy.dim() == 3 else rainy
        check_images(images, rainy)
        return with_maps(scorer).score_and_map(images, rainy) if maps else scorer.score(images, rainy)
    if isinstance(images, (str, Path, np.ndarray)):
        images = [images]
    batches = (to_batch(_pixels(image)) for image in images)
    if not maps:
        return torch.cat([scorer.score(batch).cpu() for batch in batches])
    found = [with_maps(scorer).score_and_map(batch) for batch in batches]
    return torch.cat([scores.cpu() for scores, _ in found]), [spoiled.cpu() for _, spoiled in found]


def knows_where(scorer: Scorer) -> TypeGuard[MappedScorer]:
    """Whether a score can say, as it now is, where an image is spoiled."""
    return isinstance(scorer, MappedScorer) and scorer.maps


def with_maps(scorer: Scorer) -> MappedScorer:
    """The same scorer, which must know where an image is spoiled.

    Raises:
        UserError: it does not.
    """
    if isinstance(scorer, MappedScorer) and not scorer.maps:
        raise UserError("stage 0 is a score without a map: give --stage 1, 2 or 3")
    if not knows_where(scorer):
        raise UserError(
            f"the score {scorer.name} cannot say where an image is spoiled: give finpercep:FILE, of rgsud-fast "
            "fit-finpercep"
        )
    return scorer


def _pixels(image: str | Path | np.ndarray) -> np.ndarray:
    return image if isinstance(image, np.ndarray) else read_image(Path(image))
