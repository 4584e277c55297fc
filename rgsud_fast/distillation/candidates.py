"""The pairs that are to be judged: listed once from their folders, read one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..config.rain_types import RainType
from ..data import read_image
from ..data.image_files import decoding, open_image
from ..data.layouts import PairFiles, read_layout
from ..data.sampler import evenly
from ..errors import UserError
from .store import Store

COLUMNS = {"root": "INTEGER", "rainy": "TEXT", "clean": "TEXT", "halves": "INTEGER", "label": "TEXT"}
LOOKED_AT = 20  # pairs of a folder whose sizes are compared before the work begins


class UnusablePair(Exception):
    """Why a pair cannot be judged, in a few words that are the same for pairs alike, and those of this one."""

    def __init__(self, kind: str, told: str) -> None:
        super().__init__(told)
        self.kind = kind


def list_candidates(store: Store, roots: Sequence[Path], layout: str | None, kind: RainType | None) -> int:
    """Write the pairs below folders into a store, where they are not yet: names alone, each relative to its folder.

    Returns:
        How many.

    Raises:
        UserError: a folder of unknown layout, pairs that do not match, or whose sizes differ throughout.
    """
    if (count := store.recall("count")) is None:
        count = store.fill(_rows(roots, layout, kind))
        store.note("count", count)
    return int(count)


def read_pair(root: Path, row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The rainy image and its target, uint8 [H, W, 3].

    Raises:
        UnusablePair: a file that cannot be read, or sizes that differ.
    """
    try:
        rainy = read_image(root / row["rainy"])
        target = rainy if row["halves"] else read_image(root / row["clean"])
    except UserError as error:
        raise UnusablePair("cannot be read", str(error)) from None
    if row["halves"]:
        half = rainy.shape[1] // 2
        rainy, target = rainy[:, half : 2 * half], rainy[:, :half]
    if rainy.shape != target.shape:
        raise UnusablePair("sizes differ", f"{_size(*rainy.shape[:2])} and {_size(*target.shape[:2])} pixels")
    return rainy, target


def _rows(roots: Sequence[Path], layout: str | None, kind: RainType | None) -> Iterator[dict[str, Any]]:
    for number, root in enumerate(roots):
        pairs = read_layout(root, layout, kind)
        _refuse_other_sizes(pairs)
        for pair in pairs:
            names = {"rainy": _below(pair.rainy, root), "clean": _below(pair.clean, root)}
            yield {"root": number, **names, "halves": int(pair.halves), "label": pair.kind or ""}


def _below(path: Path, root: Path) -> str:
    name, above = path.as_posix(), f"{root.as_posix().rstrip('/')}/"  # strings: a tenth of the time, of millions
    if root == Path():  # which names below it do not repeat
        above = ""
    if not name.startswith(above):
        raise UserError(f"{path} lies outside {root}: give the folder that the manifest was made of")
    return name[len(above) :]


def _refuse_other_sizes(pairs: Sequence[PairFiles]) -> None:
    """Refuse a folder in which no pair has the size of its target: it is none of pairs."""
    told = ""
    for i in evenly(len(pairs), LOOKED_AT):
        if pairs[i].halves:
            return
        try:
            sizes = [_size_of(path) for path in (pairs[i].rainy, pairs[i].clean)]
        except UserError:
            return  # told with the pair
        if sizes[0] == sizes[1]:
            return
        told = told or f"{pairs[i].rainy} is {_size(*sizes[0])} pixels and its target {_size(*sizes[1])}"
    if told:
        raise UserError(f"{told}, and so on throughout: a pair needs two images of one size; crop or leave them out")


def _size_of(path: Path) -> tuple[int, int]:
    with decoding(path), open_image(path) as image:
        turned = image.getexif().get(0x0112, 1) >= 5  # orientation: on its side
        return (image.width, image.height) if turned else (image.height, image.width)


def _size(height: int, width: int) -> str:
    return f"{width} x {height}"
