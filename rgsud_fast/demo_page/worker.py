"""From an uploaded photograph to what the page shows of it: previews, the full result as PNG, and figures."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..config.tiling import TILE
from ..data import read_image, to_batch
from ..data.image_files import to_bytes
from ..errors import UserError
from ..inference.derain import derain
from ..iqa import Plausibility, Scorer, load_scorer
from ..iqa.metrics import fixed_filter
from ..networks.tiles import Watch
from ..system.device import pick_device
from ..system.names import utf8_name
from .uploads import read_photo, result_name

LONGEST = 2048  # pixels of a preview's longer side; the file to download is of full size
KEPT = 4  # results on disk; gradio has copied what a page shows of older ones
STRIP = 64  # rows that the fixed filter takes at once; at 7,000 columns 48 MB

# What is measured of the removed layer r = photograph - result, in percent of full brightness.
LAYER = {
    "light removed": lambda photo, result: (photo - result).clamp_min(0).mean(),
    "light added": Plausibility(0, 0, 1).penalty,
    "colour of it": Plausibility(1, 0, 0).penalty,
    "large areas changed": Plausibility(0, 1, 0).penalty,
}


class Developed(NamedTuple):
    """One photograph, derained. The previews are JPEG, the result is PNG."""

    photograph: Path
    filtered: Path
    derained: Path
    result: Path
    size: tuple[int, int]  # width, height
    figures: dict[str, list[float | None]]  # by name: of the photograph, the filtered and the derained one


class Stopped(Exception):
    """The page is being closed, and what it was deraining is given up."""


class Worker:
    """A network on its device, a score, and a folder to work in; it takes one photograph at a time.

    Args:
        network: the derainer.
        scorer: the score that is shown; None shows figures that need none.
        device: auto, cpu, cuda or cuda:N.
        folder: where results go.
        tile: side in pixels of the tiles of which larger images are made.
        options: `mirror` and `grey_layer`; see `derain`.
    """

    def __init__(
        self, network: nn.Module, scorer: Scorer | None, device: str, folder: Path, tile: int = TILE, **options: bool
    ) -> None:
        self.device = pick_device(device)
        self.network, self.scorer = network.to(self.device), scorer
        self.options: dict[str, Any] = {"device": str(self.device), "tile": tile, **options}
        self._folder, self._kept = folder, deque[Path]()
        self._working, self._closing = threading.Lock(), False
        for part in network.modules():
            part.register_forward_pre_hook(self._check)

    def develop(self, upload: Path, watch: Watch | None = None) -> Developed:
        """Derain one upload.

        Args:
            upload: its file.
            watch: called after tiles of it: tiles done, tiles in all.

        Raises:
            Refused: no image, or one that is too large or too small.
            Stopped: `close` was called.
        """
        photo = read_photo(upload)
        with self._working:
            if self._closing:
                raise Stopped
            folder = self._new_folder()
            watching = None if watch is None else lambda done, total, _: watch(done, total)
            made = derain(self.network, upload, folder / result_name(upload.name), watch_tiles=watching, **self.options)
            (result,) = cast(list[Path], made)
            images = [photo, _filter(photo), read_image(result)]
            previews = (_preview(image, folder / f"{i}.jpg") for i, image in enumerate(images))
            photograph, filtered, derained = previews
            size = (photo.shape[1], photo.shape[0])
            return Developed(photograph, filtered, derained, result, size, self._figures(images))

    def close(self) -> None:
        """Give up what is being derained, wait until nothing writes any more, and take nothing new."""
        self._closing = True
        with self._working:
            pass

    def _check(self, *_: Any) -> None:
        if self._closing:
            raise Stopped

    def _new_folder(self) -> Path:
        self._kept.append(Path(tempfile.mkdtemp(dir=self._folder)))
        if len(self._kept) > KEPT:
            shutil.rmtree(self._kept.popleft(), ignore_errors=True)
        return self._kept[-1]

    @torch.no_grad()
    def _figures(self, images: list[np.ndarray]) -> dict[str, list[float | None]]:
        """Means over pieces of at most TILE pixels a side, so that memory is bounded; None where there is no figure."""
        rows: dict[str, list[list[float]]] = {name: [[], [], []] for name in ("score", *LAYER)}
        for piece in _pieces(*images[0].shape[:2]):
            photo, *results = (to_batch(image[piece], self.device) for image in images)
            for column, result in enumerate((photo, *results)):
                if self.scorer is not None:
                    rows["score"][column].append(float(self.scorer.score(result, photo)))
                for name, measure in LAYER.items() if column else ():
                    rows[name][column].append(100 * float(measure(photo, result)))
        if self.scorer is None:
            del rows["score"]
        return {name: [_mean(values) for values in columns] for name, columns in rows.items()}


def load_own_scorer(run: Path, device: str) -> tuple[Scorer | None, str]:
    """The score that a run's rewards were judged by, and its name; None and why, where it is not to be had offline."""
    path = run / "scorer.safetensors"
    if not path.is_file():
        return None, "there is no scorer.safetensors beside the weights"
    try:
        with utf8_name(path) as opened, safe_open(opened, "pt") as file:
            name = (file.metadata() or {}).get("scorer", "")
        if "pyiqa" in name:
            return None, f"{name} may fetch weights, and this page uses no network"
        return load_scorer(path, pick_device(device)), name
    except (SafetensorError, OSError):
        return None, "the run's scorer.safetensors cannot be read"
    except UserError as error:
        return None, str(error)


def _filter(photo: np.ndarray) -> np.ndarray:
    """The fixed filter, which works row by row, in strips."""
    strips = (photo[top : top + STRIP] for top in range(0, len(photo), STRIP))
    return np.concatenate([to_bytes(_first(fixed_filter(to_batch(strip)))) for strip in strips])


def _first(images: Tensor) -> Tensor:
    return images[0]


def _preview(image: np.ndarray, path: Path) -> Path:
    picture = Image.fromarray(image)
    picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    picture.save(path, "JPEG", quality=95, subsampling=0)
    return path


def _pieces(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Cut an image into pieces of at most TILE pixels a side, of about equal size."""
    for rows in _cuts(height):
        for columns in _cuts(width):
            yield rows, columns


def _cuts(length: int) -> list[slice]:
    count = -(-length // TILE)
    return [slice(i * length // count, (i + 1) * length // count) for i in range(count)]


def _mean(values: list[float]) -> float | None:
    mean = float(np.mean(values)) if values else float("nan")
    return mean if np.isfinite(mean) else None
