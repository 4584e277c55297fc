"""What is kept of the judged pairs: those that no specialist rejects and most generalists want, the best of each type.

It is asked of the manifest alone: another strictness or budget judges nothing anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.manifest import write_manifest
from .store import Store

COLUMNS = {
    **{"root": "INTEGER", "rainy": "TEXT", "clean": "TEXT", "halves": "INTEGER"},
    "type": "TEXT",  # of its folder, or of the network where that is sure; "" of no known one
    "judged_as": "TEXT",  # the type whose specialists judged it
    **{
        "p": "REAL",
        "target": "REAL",
        "rain": "REAL",
        "pair": "REAL",
        "remains": "REAL",
    },  # shares of trusted pairs that are stranger
    "worst": "TEXT",  # specialist and measure that are farthest out
    "votes": "TEXT",  # of generalists by name: P(yes)
    "weight": "REAL",
    "refs": "TEXT",  # places of the reference photographs
    "unusable": "TEXT",  # why it could not be judged
    "outcome": "TEXT",  # "kept", or why not
}
KEPT, BUDGET, VOTED = "kept", "beyond the budget", "generalists"
BEST = "weight DESC, p DESC, target + rain + pair + remains DESC, number"


def select(
    store: Store, strictness: float, budget: int | None = None, per_type: int | None = None
) -> dict[str, dict[str, int]]:
    """Write the outcome of every pair into the manifest.

    Args:
        store: of judged pairs.
        strictness: the least share of trusted pairs that have to be stranger.
        budget: most pairs in all, shared evenly among the types; what a type cannot fill goes to the others.
        per_type: most pairs of a type.

    Returns:
        How many pairs each type has by outcome.
    """
    store.change("outcome = unusable", "unusable IS NOT NULL")
    # "rain: chroma +6.0" is counted as "rain: chroma".
    cause = "rtrim(rtrim(worst, '0123456789.'), '+- ')"
    store.change(f"outcome = {cause}", "unusable IS NULL AND p < ?", (strictness,))
    store.change("outcome = ?", "unusable IS NULL AND p >= ? AND weight <= 0", (VOTED, strictness))
    store.change("outcome = ?", "unusable IS NULL AND p >= ? AND weight > 0", (KEPT, strictness))
    counts = {kind: store.count("outcome = ? AND type = ?", (KEPT, kind)) for kind in _types(store)}
    for kind, room in share_out(counts, budget, per_type).items():
        if room < counts[kind]:
            better = f"SELECT number FROM rows WHERE outcome = ? AND type = ? ORDER BY {BEST} LIMIT -1 OFFSET ?"
            store.change("outcome = ?", f"number IN ({better})", (BUDGET, KEPT, kind, room))
    return outcomes(store)


def share_out(counts: Mapping[str, int], budget: int | None, per_type: int | None) -> dict[str, int]:
    """How many pairs of each type there is room for: evenly, and what one cannot fill goes to the others."""
    room = {kind: count if per_type is None else min(count, per_type) for kind, count in counts.items()}
    if budget is None:
        return room
    left, shared = budget, {}
    for place, kind in enumerate(sorted(room, key=lambda kind: (room[kind], kind))):
        shared[kind] = min(room[kind], left // (len(room) - place))
        left -= shared[kind]
    return {kind: shared[kind] for kind in counts}


def outcomes(store: Store) -> dict[str, dict[str, int]]:
    """How many pairs each type has by outcome, in the manifest as it is."""
    found: dict[str, dict[str, int]] = {}
    for kind, outcome, count in store.groups("type", "outcome"):
        found.setdefault(kind or "unknown", {})[outcome] = count
    return found


def write_kept(store: Store, folder: Path, roots: Sequence[Path]) -> int:
    """Write what training reads, kept.jsonl, in the order of the manifest.

    Returns:
        How many pairs.
    """
    count = store.count("outcome = ?", (KEPT,))
    if count:
        write_manifest(folder, [root.resolve() for root in roots], _lines(store))
    return count


def _lines(store: Store) -> Iterator[dict[str, Any]]:
    for row in store.rows("outcome = ?", (KEPT,)):
        line = {"root": row["root"], "rainy": row["rainy"], "clean": row["clean"], "type": row["type"] or None}
        line |= {"weight": row["weight"], "p": round(row["p"], 4)}
        yield line | ({"halves": True} if row["halves"] else {})


def _types(store: Store) -> list[str]:
    return [kind for kind, _ in store.groups("type")]
