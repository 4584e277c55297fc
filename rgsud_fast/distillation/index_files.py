"""The files of an index: a row for each photograph in SQLite, and what it is found by in three arrays beside it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np

from ..errors import UserError, reason
from ..system.files import replacing
from ..system.given import INDEX, check_index
from .embeddings import CAPTION, THUMB, VISUAL
from .encoders import Encoders
from .store import Store, from_sqlite
from .type_network import TYPES

DATABASE, NETWORK = INDEX, "types.safetensors"
COLUMNS = {
    **{"path": "TEXT", "height": "INTEGER", "width": "INTEGER", "digest": "TEXT"},
    "type": "TEXT",  # of its folder, or of the network where that is sure; "" of no known one
    "left_out": "TEXT",  # why it could not be read
}
WORDS = {"caption": "TEXT"}  # of a captioner, where there is one
Shapes = dict[str, tuple[tuple[int, ...], type]]
ARRAYS: Shapes = {
    "captions": ((len(CAPTION),), np.float32),
    "visual": ((VISUAL,), np.float32),
    "thumbs": ((THUMB, THUMB), np.uint8),
}
LEAST = 20  # photographs: among fewer the nearest is not near


def shapes_by(encoders: Encoders) -> Shapes:
    """What each array holds of a photograph, and its type."""
    if encoders.clip is None:
        return ARRAYS
    size = ((encoders.clip.size,), np.float32)
    return ARRAYS | {"visual": size} | ({"captions": size} if encoders.captioner else {})


def create_arrays(folder: Path, count: int, shapes: Shapes = ARRAYS) -> None:
    """Make the arrays of so many photographs, where they are missing; they take room as they are filled."""
    for name, (shape, dtype) in shapes.items():
        path = folder / f"{name}.npy"
        if not path.is_file():
            with replacing(path) as temporary:
                np.lib.format.open_memmap(temporary, "w+", dtype, (count, *shape)).flush()


def open_arrays(folder: Path, count: int, shapes: Shapes = ARRAYS) -> dict[str, np.ndarray]:
    """The arrays, mapped for writing.

    Raises:
        UserError: one of another size.
    """
    arrays = {name: _mapped(folder / f"{name}.npy", "r+") for name in shapes}
    for name, array in arrays.items():
        if array.shape != (count, *shapes[name][0]):
            raise UserError(f"{folder / name}.npy is of another index: remove {folder}, or give another folder")
    return arrays


class Catalogue:
    """A finished index as it lies on disk, for reading.

    Raises:
        UserError: there is none, or it is not finished.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        check_index(folder)
        try:
            self._connection = sqlite3.connect(folder / DATABASE)
            notes = Store.notes_of(self._connection)
            rows = self._connection.execute("SELECT type, left_out FROM rows ORDER BY number")
            self.types = np.fromiter((_number(kind, bool(out)) for kind, out in rows), np.int8)
        except sqlite3.Error as error:
            raise UserError(f"{folder / DATABASE}: no index ({reason(error)}); make it anew") from None
        if "captions" not in notes:
            raise UserError(f"{folder} is not finished: give the same rgsud-fast index once more, it goes on")
        self.root = Path(notes["made of"]["references"])
        self.digest = str(notes["digest"])  # of all that was found by
        # CLIP and a captioner, of which it was made; see `encoders.identity_of`
        self.encoders: dict[str, list[str]] = {
            name: notes["made of"][name] for name in ("clip", "captions") if name in notes["made of"]
        }
        self.middle, self.spread = (np.array(one, np.float32) for one in notes["captions"])  # [12] each; of words 0, 1

    def path(self, place: int) -> Path:
        """A photograph's file."""
        ((name,),) = self._connection.execute("SELECT path FROM rows WHERE number = ?", (int(place),))
        return self.root / from_sqlite(name)

    def array(self, name: str) -> np.ndarray:
        """One of the arrays, mapped for reading."""
        return _mapped(self.folder / f"{name}.npy", "r")


def _number(kind: str, left_out: bool) -> int:
    return -2 if left_out else list(TYPES).index(kind) if kind in TYPES else -1


def _mapped(path: Path, mode: str) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no array of an index ({reason(error, 80)}); make it anew") from None
