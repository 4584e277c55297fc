"""Pairs that are trusted, to which the specialists are fitted: rendered on clean photographs, or the user's."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config.rain_types import RainType
from ..data import list_images, read_image
from ..data.layouts import PairFiles, read_layout
from ..data.sampler import evenly
from ..data.weather import render_pair
from ..errors import UserError
from ..system.distributed import Ranks
from ..system.names import name_bytes
from ..system.watch import Watch
from .candidates import UnusablePair, read_pair
from .embeddings import Embedding, embed
from .measures import measure
from .references import References
from .specialists import LEAST, Panel
from .store import Store
from .type_network import TYPES, middle

COLUMNS = {"kind": "TEXT", "scene": "INTEGER", "measures": "TEXT"}
SCENES, RENDERINGS = 64, 2  # clean photographs, and pairs of each type that are rendered on one
MOST = 512  # pairs of a trusted set, evenly chosen


class Trusted(NamedTuple):
    """One trusted pair before it is read."""

    scene: int
    kind: RainType | None  # None: the network says it
    path: Path  # of a clean photograph to render on, or of the rainy image of a pair
    pair: PairFiles | None
    rendering: int


def list_trusted(clean: Path | None, trusted: Path | None, kind: RainType | None) -> list[Trusted]:
    """Name the trusted pairs.

    Args:
        clean: folder of clean photographs, on which the types of rain are rendered.
        trusted: folder of pairs.
        kind: the only type to render, where not all are wanted, and that of pairs whose names tell none.

    Raises:
        UserError: neither is given, a folder holds none, or there are fewer than 20 of each type.
    """
    if clean is None and trusted is None:
        raise UserError(
            "judges are fitted to pairs that you trust: give --clean DIR, good photographs on which rain is rendered, "
            "or --trusted DIR, a folder of pairs"
        )
    found = []
    if clean is not None:
        paths = list_images(clean)
        for place in evenly(len(paths), SCENES):
            kinds = TYPES if kind is None else (kind,)
            found += [Trusted(place, k, paths[place], None, r) for k in kinds for r in range(RENDERINGS)]
    if trusted is not None:
        pairs = read_layout(trusted)
        scenes = {path: -1 - place for place, path in enumerate(dict.fromkeys(pair.clean for pair in pairs))}
        chosen = [pairs[i] for i in evenly(len(pairs), MOST)]
        found += [Trusted(scenes[pair.clean], pair.kind or kind, pair.rainy, pair, 0) for pair in chosen]
    counts = Counter(item.kind for item in found)
    if None not in counts and max(counts.values()) < LEAST:
        raise _too_few({str(kind): count for kind, count in counts.items()})
    return found


def digest_of(items: Sequence[Trusted]) -> str:
    """Of what is trusted, in its order: rows are numbered by it."""
    names = (f"{item.kind} {item.rendering} {item.path.resolve()}" for item in items)
    return hashlib.blake2b(b"\0".join(map(name_bytes, names)), digest_size=16).hexdigest()


def measure_trusted(
    items: Sequence[Trusted], store: Store, references: References, seed: int, ranks: Ranks, watch: Watch
) -> None:
    """Measure this process's share of the trusted pairs, those that were not measured before."""
    done = store.done(len(items))
    own = [number for number in range(ranks.rank, len(items), ranks.count) if not done[number]]
    for count, number in enumerate(own, 1):
        item = items[number]
        try:
            rainy, target = _read(item, seed)
        except UnusablePair:
            store.add(number, {"kind": "", "scene": item.scene, "measures": "{}"})  # one less
        else:
            seen = embed(rainy, references.network, ranks.device, references.encoders)
            kind = item.kind or TYPES[int(np.argmax(seen.probabilities))]
            found = measures_of(rainy, target, seen, kind, references, ranks)[0]
            values = {name: values.tolist() for name, values in found.items()}
            store.add(number, {"kind": kind, "scene": item.scene, "measures": json.dumps(values)})
        watch(count, len(own))


def measures_of(
    rainy: np.ndarray, target: np.ndarray, seen: Embedding, kind: str, references: References, ranks: Ranks
) -> tuple[dict[str, np.ndarray], list[int]]:
    """The measures of a pair, and the references that it was compared with."""
    near = references.nearest(seen, kind)
    return measure(rainy, target, references.distance(seen, near), ranks.device), near


def fit_panels(store: Store) -> dict[str, Panel]:
    """The specialists of each type that has 20 trusted pairs or more.

    Raises:
        UserError: none has.
    """
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in store.rows("kind != ''"):
        rows[row["kind"]].append(row)
    panels = {}
    for kind, own in rows.items():
        if len(own) >= LEAST and len({row["scene"] for row in own}) >= 2:
            pairs = [_measures(row["measures"]) for row in own]
            panels[kind] = Panel.fit(pairs, [row["scene"] for row in own])
    if not panels:
        raise _too_few({kind: len(own) for kind, own in rows.items()})
    return panels


def _too_few(counts: Mapping[str, int]) -> UserError:
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "none"
    return UserError(f"trusted pairs: {told}; at least {LEAST} of a type are needed to judge by: give more")


def _measures(text: str) -> dict[str, np.ndarray]:
    return {name: np.array(values) for name, values in json.loads(text).items()}


def _read(item: Trusted, seed: int) -> tuple[np.ndarray, np.ndarray]:
    if item.pair is not None:
        row = {"rainy": item.pair.rainy, "clean": item.pair.clean, "halves": item.pair.halves}
        return read_pair(Path(), row)
    try:
        image = middle(read_image(item.path))
    except UserError as error:
        raise UnusablePair("cannot be read", str(error)) from None
    assert item.kind is not None
    return render_pair(image, item.kind, (seed, item.scene, item.rendering))
