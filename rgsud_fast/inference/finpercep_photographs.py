"""The photographs of a fit of FinPercep-RM: read, told apart, and none of them of the validation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data import list_images, read_image, render_rain
from ..data.folder_set import digest
from ..data.sampler import evenly
from ..errors import UserError
from ..iqa.finpercep.fit import hold_apart
from ..iqa.finpercep.generated import broad_style

LEAST, MOST = 8, 400  # clean photographs: fewer are refused, and of more these are evenly chosen
SMALLEST = 96  # pixels of their shorter side


class Photographs(NamedTuple):
    """What a fit is made of."""

    fitted: list[np.ndarray]
    measured: list[np.ndarray]
    rainy: list[np.ndarray]  # or, without any, rain rendered on the fitted ones
    key: str  # of all of them and of what is done with them


def gather(clean: Path, rainy: str | Path | None, val: Path | None, options: dict[str, Any]) -> Photographs:
    """Read what a fit is made of; `options` are those that its result depends on.

    Raises:
        UserError: too few or too small photographs, one that cannot be read, or validation images among them.
    """
    images = _read(clean)
    if len(images) < LEAST:
        raise UserError(f"{clean} has {len(images)} images: FinPercep-RM needs {LEAST} clean photographs or more")
    digests = [digest(image) for image in images]
    if val is not None:
        _refuse_validation(clean, val, digests)
    fitted, measured = hold_apart(len(images))
    wet = _read(Path(rainy)) if rainy is not None else []
    name = json.dumps([options, digests, [digest(image) for image in wet]])
    if not wet:
        rng = np.random.default_rng(options["seed"])
        wet = [render_rain(images[i], broad_style(rng), int(rng.integers(2**62))) for i in fitted]
    key = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    return Photographs([images[i] for i in fitted], [images[i] for i in measured], wet, key)


def _read(folder: Path) -> list[np.ndarray]:
    """The photographs of a folder, at most 400 of them.

    Raises:
        UserError: one that is smaller than a crop, or cannot be read.
    """
    paths = list_images(folder)
    images = []
    for path in (paths[i] for i in evenly(len(paths), MOST)):
        image = read_image(path)
        if min(image.shape[:2]) < SMALLEST:
            size = f"{image.shape[1]} x {image.shape[0]}"
            raise UserError(f"{path} is {size} pixels: FinPercep-RM needs {SMALLEST} on each side; leave it out")
        images.append(image)
    return images


def validation_of(run: str | Path | None, given: str | Path | None) -> Path | None:
    """The folder of validation images that a user names, or a run's where it is still there."""
    if given is not None:
        return Path(given)
    if run is None or not (Path(run) / "config.yaml").is_file():
        return None
    from ..config.load import read_yaml

    data = read_yaml(Path(run) / "config.yaml").get("data")
    named = data.get("val_clean") if isinstance(data, dict) else None
    return Path(str(named)) if named and Path(str(named)).is_dir() else None


def _refuse_validation(clean: Path, val: Path, digests: Sequence[str]) -> None:
    for path in list_images(val):
        if (place := digest(read_image(path))) in digests:
            raise UserError(
                f"{path} is also image {digests.index(place) + 1} of {clean}: a score must not see the images that it "
                "is tested with; leave it out of the clean ones"
            )
