"""The report of a distillation: what was kept, why the rest was not, and pictures of both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..config.rain_types import RAIN_TYPES
from ..runs.html.page import Panel, Row, facts, figures, rows, write_gallery
from .candidates import UnusablePair, read_pair
from .measures import SPECIALISTS
from .references import References
from .selection import KEPT
from .store import Store

EXAMPLES = 8  # pairs for each outcome, evenly chosen
SHOWN = 12  # outcomes with pictures, the most frequent ones
SIDE = 320  # pixels of a picture's longer side
BESIDE = 2  # references shown with a pair
BINS = 10  # of p
JUDGED = tuple(SPECIALISTS)


def write_report(
    path: Path, manifest: Store, roots: Sequence[Path], references: References, found: dict[str, Any]
) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        manifest: with outcomes.
        roots: folders that its names are below.
        references: which the pairs were compared with.
        found: the figures of `distil`.
    """
    kinds = found["outcomes"]
    told = {"kept": f"{found['kept']:,} of {found['pairs']:,}", "strictness": found["strictness"]}
    told |= {"reference photographs": f"{len(references):,}"}
    told |= {name: found[name] for name in ("budget", "per_type") if found[name]}
    sections = [
        facts("Distilled", told, "A pair is kept where no specialist rejects it and most generalists want it."),
        figures("By type", _table({RAIN_TYPES.get(k, k): v for k, v in kinds.items()}), text=_STEPS),
        figures("By set", _table({_name(roots, r): v for r, v in _by_root(manifest).items()})),
        figures("Shares of trusted pairs that are stranger", _histogram(manifest), text=_SHARES),
    ]
    whole: dict[str, int] = {}
    for outcome, count in manifest.groups("outcome"):
        whole[outcome] = count
    order = sorted(whole, key=lambda outcome: (outcome != KEPT, -whole[outcome], outcome))
    for outcome in order[:SHOWN]:
        shown = [_row(row, roots, references) for row in _examples(manifest, outcome, whole[outcome])]
        sections.append(rows(f"{outcome}: {whole[outcome]:,}", shown))
    write_gallery(path, "Distillation", *sections, subtitle=f"{found['pairs']:,} pairs of {len(roots)} folders")


_STEPS = "Each column is what is left after one more judge; a pair counts with the specialist that finds it strangest."
_SHARES = "Pairs by p, from what nothing trusted resembles to what is as good as any; below the strictness is rejected."


def _table(groups: dict[str, dict[str, int]]) -> dict[str, dict[str, float]]:
    """The pyramid: for each group how many pairs are left after each judge."""
    table = {}
    for name, counts in groups.items():
        left, line = sum(counts.values()), {}
        line["pairs"] = f"{left:,}"
        left -= sum(n for outcome, n in counts.items() if outcome in _UNUSABLE)
        line["readable"] = f"{left:,}"
        for judge in JUDGED:
            left -= sum(n for outcome, n in counts.items() if outcome.startswith(f"{judge}: "))
            line[f"after {judge}"] = f"{left:,}"
        left -= counts.get("generalists", 0)
        line["after generalists"] = f"{left:,}"
        line["kept"] = f"{counts.get(KEPT, 0):,}"
        table[name] = line
    return table  # type: ignore[return-value]


_UNUSABLE = ("cannot be read", "sizes differ", "no trusted pairs of its type")


def _by_root(manifest: Store) -> dict[int, dict[str, int]]:
    found: dict[int, dict[str, int]] = {}
    for root, outcome, count in manifest.groups("root", "outcome"):
        found.setdefault(root, {})[outcome] = count
    return found


def _name(roots: Sequence[Path], number: int) -> str:
    same = [root for root in roots if root.name == roots[number].name]
    return roots[number].name if len(same) == 1 else str(roots[number])


def _histogram(manifest: Store) -> dict[str, dict[str, float]]:
    """Counts of p in tenths, for all together and for each specialist."""
    table: dict[str, dict[str, Any]] = {}
    for column, name in (*((name, name) for name in JUDGED), ("p", "together")):
        counts = dict.fromkeys(range(BINS), 0)
        for place, count in manifest.groups(f"min(CAST({column} * {BINS} AS INTEGER), {BINS - 1})"):
            if place is not None:
                counts[int(place)] = count
        table[name] = {f"{place / BINS:.1f}": f"{count:,}" for place, count in counts.items()}
    return table


def _examples(manifest: Store, outcome: str, count: int) -> list[dict[str, Any]]:
    """Pairs evenly spread among those of an outcome."""
    places = {int(place) for place in np.linspace(0, count - 1, min(count, EXAMPLES)).round()}
    found = []
    for place in sorted(places):
        found += list(manifest.rows("outcome = ?", (outcome,), f"number LIMIT 1 OFFSET {place}"))
    return found


def _row(row: dict[str, Any], roots: Sequence[Path], references: References) -> Row:
    name = f"{_name(roots, row['root'])}/{row['rainy']}"
    try:
        rainy, target = (_small(image) for image in read_pair(roots[row["root"]], row))
    except UnusablePair as error:
        return Row(name, [Panel("rainy", None, str(error))])
    panels = [Panel("rainy", rainy, row["worst"] or ""), Panel("target", target)]
    for place in _places(row["refs"])[:BESIDE]:
        grey = references.thumb(place)
        panels.append(Panel("reference", np.repeat(grey[:, :, None], 3, axis=2), references.path(place).name))
    scores = {key: row[key] for key in ("p", *JUDGED) if row[key] is not None}
    return Row(name, panels, scores)


def _places(text: str | None) -> list[int]:
    return [int(place) for place in text.strip("[]").split(",") if place.strip()] if text else []


def _small(image: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    return np.array(picture)
