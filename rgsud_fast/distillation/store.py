"""A table of numbered rows in SQLite, for work that several processes share and any of them may be killed in."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError, reason
from ..runs.lock import FolderLock
from ..system.distributed import Ranks

COMMIT = 1.0  # seconds of work that a kill may lose


class Store:
    """Rows by number. Each process writes a file of its own, which `merge` brings into that of all.

    PATH holds what is together, PATH-RANK.part what a rank has done since the last `merge`. No file has two writers, so
    that a network file system, whose locks SQLite cannot trust, is as good as a disk.

    Args:
        path: the file; it is made where it is missing.
        columns: name and SQLite type of each column beside `number`.
        made_of: what the rows follow from, such as folders and options; plain values.
        rank: of this process; only rank 0 makes the file and merges.
        renew: a file that holds nothing yet, as a call leaves it that was refused, may be made of something else.

    Raises:
        UserError: the file is no such table, or was made of something else.
    """

    def __init__(
        self, path: Path, columns: Mapping[str, str], made_of: Mapping[str, Any], rank: int = 0, renew: bool = False
    ) -> None:
        self.path, self._columns, self.rank = path, columns, rank
        self._part: sqlite3.Connection | None = None
        self._committed = time.monotonic()
        if rank == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._all = self._connect(path, create=rank == 0)
        if rank == 0:
            self._remember_or_refuse(json.dumps(made_of, sort_keys=True), renew)

    def merge(self) -> None:
        """Bring what every process has done into the file of all; rank 0 alone, while the others wait."""
        self._all.commit()
        for part in self._parts():
            self._all.execute("ATTACH ? AS part", (os.fsencode(part),))  # bytes: a name may be no UTF-8
            with self._all:
                names = ", ".join(("number", *self._columns))
                if self._all.execute("SELECT 1 FROM part.sqlite_master WHERE name = 'rows'").fetchone():
                    # else its process was killed before there was a table
                    self._all.execute(f"INSERT OR REPLACE INTO rows ({names}) SELECT {names} FROM part.rows")
            self._all.execute("DETACH part")
            part.unlink()
            part.with_name(part.name + "-journal").unlink(missing_ok=True)

    def done(self, count: int) -> np.ndarray:
        """Which of the numbers below `count` have a row in the file of all, [count] of bool."""
        found = np.zeros(count, bool)
        for (number,) in self._all.execute("SELECT number FROM rows WHERE number < ?", (count,)):
            found[number] = True
        return found

    def add(self, number: int, values: Mapping[str, Any]) -> None:
        """Write a row into this process's own file; at the latest a second later it is safe from a kill."""
        if self._part is None:
            self._part = self._connect(self.path.with_name(f"{self.path.name}-{self.rank}.part"))
        marks = ", ".join("?" * (1 + len(self._columns)))
        row = (number, *(to_sqlite(values.get(name)) for name in self._columns))
        self._part.execute(f"INSERT OR REPLACE INTO rows VALUES ({marks})", row)
        if time.monotonic() - self._committed >= COMMIT:
            self.commit()

    def commit(self) -> None:
        """Make what was added safe from a kill."""
        if self._part is not None:
            self._part.commit()
        self._committed = time.monotonic()

    def settle(self) -> None:
        """Commit, and let go of this process's own file, which `merge` may then take; `add` begins another."""
        self.commit()
        if self._part is not None:
            self._part.close()
        self._part = None

    def rows(self, where: str = "1", values: Sequence[Any] = (), order: str = "number") -> Iterator[dict[str, Any]]:
        """Rows of the file of all as dicts; `where` and `order` are SQL."""
        cursor = self._all.cursor()  # of its own, so that rows may be read while others are
        for row in cursor.execute(f"SELECT * FROM rows WHERE {where} ORDER BY {order}", values):
            yield dict(zip(("number", *self._columns), map(from_sqlite, row), strict=True))

    def count(self, where: str = "1", values: Sequence[Any] = ()) -> int:
        """How many rows of the file of all fulfil a condition in SQL."""
        ((count,),) = self._all.execute(f"SELECT count(*) FROM rows WHERE {where}", values)
        return int(count)

    def groups(self, *columns: str) -> list[tuple[Any, ...]]:
        """The values that columns take together in the file of all, in order, each with how many rows have them."""
        names = ", ".join(columns)
        return self._all.execute(f"SELECT {names}, count(*) FROM rows GROUP BY {names} ORDER BY {names}").fetchall()

    def change(self, what: str, where: str, values: Sequence[Any] = ()) -> None:
        """Change rows of the file of all, `what` and `where` in SQL; rank 0 alone."""
        with self._all:
            self._all.execute(f"UPDATE rows SET {what} WHERE {where}", values)

    def note(self, key: str, value: Any) -> None:
        """Keep a plain value beside the rows; rank 0 alone."""
        with self._all:
            self._all.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (key, json.dumps(value)))

    def recall(self, key: str) -> Any:
        """A value that `note` kept; None where there is none."""
        row = self._all.execute("SELECT value FROM notes WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    @staticmethod
    def notes_of(connection: sqlite3.Connection) -> dict[str, Any]:
        """Everything that `note` kept in a file that is open, and what its rows were made of as "made of"."""
        return {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM notes")}

    def fill(self, rows: Iterator[Mapping[str, Any]]) -> int:
        """Make these the rows of the file of all, numbered from 0, in one transaction; rank 0 alone.

        Returns:
            How many.
        """
        marks, number = ", ".join("?" * (1 + len(self._columns))), -1
        with self._all:
            self._all.execute("DELETE FROM rows")
            for number, row in enumerate(rows):
                found = (number, *(to_sqlite(row.get(name)) for name in self._columns))
                self._all.execute(f"INSERT INTO rows VALUES ({marks})", found)
        return number + 1

    def close(self) -> None:
        """Commit, and let go of the files."""
        self.settle()
        self._all.close()

    def _connect(self, path: Path, create: bool = True) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(path)
            if create:
                columns = ", ".join(f"{name} {kind}" for name, kind in self._columns.items())
                with connection:
                    connection.execute(f"CREATE TABLE IF NOT EXISTS rows (number INTEGER PRIMARY KEY, {columns})")
                    connection.execute("CREATE TABLE IF NOT EXISTS notes (key TEXT PRIMARY KEY, value TEXT)")
            found = [name for _, name, *_ in connection.execute("PRAGMA table_info(rows)")]
        except sqlite3.Error as error:
            raise UserError(f"{path}: cannot be used ({reason(error)}); give another folder or remove it") from None
        if found != ["number", *self._columns]:
            connection.close()
            raise UserError(f"{path}: its columns are not this version's; give another folder or remove it")
        return connection

    def _parts(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.name}-*.part"))

    def _remember_or_refuse(self, made_of: str, renew: bool) -> None:
        empty = renew and not self.count() and set(self.notes_of(self._all)) <= {"made of"} and not self._parts()
        if (before := self.recall("made of")) is None or empty:
            self.note("made of", json.loads(made_of))
        elif (now := json.loads(made_of)) != before:
            changed = ", ".join(key for key in sorted({*now, *before}) if now.get(key) != before.get(key))
            raise UserError(
                f"{self.path} was made with other values of: {changed}; give the same ones to go on, or another folder"
            )


@contextlib.contextmanager
def alone(out: Path, ranks: Ranks) -> Iterator[None]:
    """Keep others out of the folder meanwhile."""
    if not ranks.first:
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(out, "give another folder")
    try:
        yield
    finally:
        lock.release()


def to_sqlite(value: Any) -> Any:
    """A value as SQLite holds it: names that are no UTF-8 as their bytes, lists and dicts as JSON."""
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value)
    if isinstance(value, str) and not value.isascii():
        held = os.fsencode(value)
        return value if held.decode("utf-8", "replace") == value else held
    return value


def from_sqlite(value: Any) -> Any:
    """What `to_sqlite` was given, but for lists and dicts, which stay JSON."""
    return os.fsdecode(value) if isinstance(value, bytes) else value
