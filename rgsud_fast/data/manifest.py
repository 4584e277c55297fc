"""The manifest of labelled pairs that `distil` keeps and training reads: a file of JSON lines.

The first line is `{"roots": [FOLDER, ...]}`, relative ones to the manifest's folder. Every other line is a pair:
`{"root": 0, "rainy": NAME, "clean": NAME, "type": "drs" or null, "weight": 1.0}`, names below that root, with whatever
else is told of it; `"halves": true` where one file holds both, the clean image on the left.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from ..config.rain_types import RAIN_TYPES, RainType
from ..errors import UserError, reason
from ..system.files import replacing

MANIFEST = "kept.jsonl"


class Kept(NamedTuple):
    """One pair of a manifest."""

    rainy: Path
    clean: Path
    kind: RainType | None
    name: str
    halves: bool
    weight: float


def write_manifest(folder: str | Path, roots: Sequence[str | Path], pairs: Iterable[Mapping[str, Any]]) -> Path:
    """Write the manifest of a folder, all or nothing; see the head of this file for what a pair holds."""
    path = Path(folder) / MANIFEST
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:  # a line at a time, of millions
        for line in chain([{"roots": [str(root) for root in roots]}], pairs):
            file.write(json.dumps(line) + "\n")
    return path


def read_manifest(folder: str | Path) -> list[Kept]:
    """The pairs of a folder's manifest.

    Raises:
        UserError: it cannot be read, or a line is no pair; the message names it. No pair at all.
    """
    path = Path(folder) / MANIFEST
    kept: list[Kept] = []
    roots: list[Path] = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    row = json.loads(line)
                    if number == 1:
                        roots = [path.parent / str(root) for root in row["roots"]]
                    else:
                        kept.append(_pair(row, roots))
                except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
                    raise UserError(f"{path}, line {number}: no line of a manifest ({reason(error)})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({reason(error)})") from None
    if not kept:
        raise UserError(f"{path}: no pair was kept; distil with a lower --strictness, or other sets")
    return kept


def _pair(row: Mapping[str, Any], roots: Sequence[Path]) -> Kept:
    place, rainy, clean = row.get("root", 0), row["rainy"], row["clean"]
    if type(place) is not int or place < 0 or not all(isinstance(name, str) for name in (rainy, clean)):
        raise ValueError("root must be a number, rainy and clean names")
    root = roots[place]
    if any(".." in Path(name).parts or Path(name).is_absolute() for name in (rainy, clean)):
        raise ValueError("a name leads out of its root")
    kind, weight = row.get("type"), float(row.get("weight", 1.0))
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"weight {weight:g}")
    known = kind if kind in RAIN_TYPES else None
    return Kept(root / rainy, root / clean, known, rainy, bool(row.get("halves", False)), weight)
