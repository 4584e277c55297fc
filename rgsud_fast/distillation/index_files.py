"""The files of an index: a row for each photograph in SQLite, and what it is found by in three arrays beside it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np

from ..errors import UserError, reason
from ..system.files import replacing
from .embeddings import CAPTION, THUMB, VISUAL
from .store import Store, from_sqlite
from .type_network import TYPES

DATABASE, NETWORK = "index.sqlite", "types.safetensors"
COLUMNS = {
    **{"path": "TEXT", "height": "INTEGER", "width": "INTEGER", "digest": "TEXT"},
    "type": "TEXT",  # of its folder, or of the network where that is sure; "" of no known one
    "left_out": "TEXT",  # why it could not be read
}
ARRAYS: dict[str, tuple[tuple[int, ...], type]] = {
    "captions": ((len(CAPTION),), np.float32),
    "visual": ((VISUAL,), np.float32),
    "thumbs": ((THUMB, THUMB), np.uint8),
}
LEAST = 20  # photographs: among fewer the nearest is not near


def create_arrays(folder: Path, count: int) -> None:
    """Make the arrays of so many photographs, where they are missing; they take room as they are filled."""
    for name, (shape, dtype) in ARRAYS.items():
        path = folder / f"{name}.npy"
        if not path.is_file():
            with replacing(path) as temporary:
                np.lib.format.open_memmap(temporary, "w+", dtype, (count, *shape)).flush()


def open_arrays(folder: Path, count: int) -> dict[str, np.ndarray]:
    """The arrays, mapped for writing.

    Raises:
        UserError: one of another size.
    """
    arrays = {name: _mapped(folder / f"{name}.npy", "r+") for name in ARRAYS}
    for name, array in arrays.items():
        if array.shape != (count, *ARRAYS[name][0]):
            raise UserError(f"{folder / name}.npy is of another index: remove {folder}, or give another folder")
    return arrays


class Catalogue:
    """A finished index as it lies on disk, for reading.

    Raises:
        UserError: there is none, or it is not finished.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / DATABASE).is_file():
            raise UserError(f"{folder} is no index: make one with rgsud-fast index REFERENCES {folder}")
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
        self.middle, self.spread = (np.array(one, np.float32) for one in notes["captions"])  # [12] each

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
