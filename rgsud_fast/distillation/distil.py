"""Distillation: of many labelled pairs those that judges find good, beside real photographs that look like them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..config.rain_types import RAIN_TYPES, RainType
from ..data import read_image
from ..errors import UserError, either
from ..system.distributed import Ranks, process_group
from ..system.files import write_text
from ..system.given import check_index, check_seed
from ..system.names import takes_home
from ..system.watch import Watch, nobody
from . import candidates
from . import trusted as trust
from .candidates import UnusablePair, list_candidates, read_pair
from .embeddings import embed
from .generalists import Generalist, load_generalists
from .references import LEVELS, References
from .report import write_report
from .selection import COLUMNS, KEPT, select, write_kept
from .specialists import Panel
from .store import Store, alone
from .type_network import TYPES, sure_type

CHUNK = 1024  # names of pairs in memory at once
MILLION = 1_000_000
LOST = "another process was lost, and its own message says why: start again, it goes on where it was"


@takes_home
def distil(
    index: str | Path,
    pairs: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    clean: str | Path | None = None,
    trusted: str | Path | None = None,
    budget: int | None = None,
    per_type: int | None = None,
    strictness: float = 0.05,
    judges: Sequence[str] = (),
    layout: str | None = None,
    type: RainType | None = None,
    seed: int = 0,
    device: str = "auto",
    watch: Watch = nobody,
    watch_trusted: Watch = nobody,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Judge labelled pairs and keep the good ones.

    Called again with the same folders it goes on, and ends in the same manifest; another strictness (without `judges`),
    budget or number per type judges nothing anew. Processes that torchrun started share the work.

    Args:
        index: of real photographs, as `index` wrote it.
        pairs: folder of pairs, or several, each in a layout that is known.
        output: folder; gets kept.jsonl for training, manifest.sqlite, report.html and report.json.
        clean: folder of clean photographs; rain rendered on them makes the pairs that specialists trust.
        trusted: folder of pairs to trust, in place of these or beside them.
        budget: most pairs to keep in all, shared evenly among the types.
        per_type: most pairs to keep of a type.
        strictness: share of trusted pairs that may be lost.
        judges: generalists, each vlm:FOLDER of a vision-language model of transformers; most of them must say yes.
        layout: of the pairs, where it is not told by names.
        type: of the pairs, in place of what names or the network tell.
        seed: of the rendered pairs.
        device: auto, cpu, cuda or cuda:N.
        watch, watch_trusted: told how many of this process's pairs are judged, and of the trusted ones measured.
        say: told what is done, a line each.

    Returns:
        Counts by type and outcome, seconds per pair, and hours that a million pairs would take one process.

    Raises:
        UserError: what the user can mend; all pairs rejected among it.
    """
    roots = [Path(one) for one in ([pairs] if isinstance(pairs, (str, Path)) else pairs)]
    _check(roots, strictness, budget, per_type, type)
    check_seed(seed)
    check_index(Path(index))
    out, began = Path(output), time.perf_counter()
    items = trust.list_trusted(Path(clean) if clean else None, Path(trusted) if trusted else None, type)
    with process_group(device, LOST) as ranks, alone(out, ranks):
        references = References(Path(index), ranks.device)
        generalists = load_generalists(judges, ranks.device)
        made_of: dict[str, Any] = {"index": references.digest, "seed": seed}
        made_of |= {"clean": _resolved(clean), "trusted": _resolved(trusted), "what is trusted": trust.digest_of(items)}
        listed = {"pairs": [str(root.resolve()) for root in roots], "layout": layout or "", "type": type or ""}
        judged = made_of | listed | {"judges": list(judges)} | ({"strictness": strictness} if judges else {})
        named = _open(out / "pairs.sqlite", candidates.COLUMNS, listed, ranks)
        told = _open(out / "trusted.sqlite", trust.COLUMNS, made_of | {"type": listed["type"]}, ranks)
        manifest = _open(out / "manifest.sqlite", COLUMNS, judged, ranks)
        if ranks.first:
            count = list_candidates(named, roots, layout, type)
            say(f"{count:,} pairs, {len(references):,} photographs to compare with, {len(items)} trusted pairs")
            if lacking := references.lacking(kind for kind, _ in named.groups("label")):
                say(
                    f"the index holds fewer than {LEVELS[-1]} photographs of {', '.join(lacking)}: pairs of such a "
                    "type are compared with those of every type; index some of it"
                )
        ranks.wait()
        trust.measure_trusted(items, told, references, seed, ranks, watch_trusted)
        _together(told, ranks)
        panels = trust.fit_panels(told)
        bench = _Bench(roots, references, panels, generalists, strictness, ranks)
        seconds, number = _judge_all(bench, named, manifest, watch)
        _together(manifest, ranks)
        figures: dict[str, Any] = {}
        if ranks.first:
            figures = _conclude(manifest, out, roots, references, strictness, budget, per_type)
        spent = ranks.all_gather((seconds, number))
        if ranks.first:
            figures |= _cost(spent, ranks.count) | {"seconds": time.perf_counter() - began}
            write_text(out / "report.json", json.dumps(figures, indent=2) + "\n")
        for store in (named, told, manifest):
            store.close()
        return ranks.broadcast(figures)


class _Bench:
    """The judges of one process, and what they judge by."""

    def __init__(
        self,
        roots: Sequence[Path],
        references: References,
        panels: dict[str, Panel],
        generalists: Sequence[Generalist],
        strictness: float,
        ranks: Ranks,
    ) -> None:
        self.roots, self.references, self.panels, self.ranks = roots, references, panels, ranks
        self.generalists, self.strictness = generalists, strictness

    def judge(self, row: dict[str, Any]) -> dict[str, Any]:
        """The manifest's row of a pair: who says what of it, and why."""
        known = {name: row[name] for name in ("root", "rainy", "clean", "halves")} | {"type": row["label"]}
        try:
            rainy, target = read_pair(self.roots[row["root"]], row)
        except UnusablePair as error:
            return known | {"unusable": error.kind, "worst": str(error)}
        seen = embed(rainy, self.references.network, self.ranks.device, self.references.encoders)
        probabilities = seen.probabilities
        known["type"] = row["label"] or sure_type(probabilities.tolist())
        kind = known["type"] or TYPES[int(np.argmax(probabilities))]
        if kind not in self.panels:
            return known | {"judged_as": kind, "unusable": "no trusted pairs of its type", "worst": kind}
        measures, near = trust.measures_of(rainy, target, seen, kind, self.references, self.ranks)
        verdict = self.panels[kind].judge(measures)
        known |= {"judged_as": kind, "p": verdict.p, **verdict.each, "worst": verdict.reason, "refs": near}
        if not self.generalists or verdict.p < self.strictness:
            return known | {"weight": 1.0}
        beside = [read_image(self.references.path(place)) for place in near]
        votes = {one.name: one.score(rainy, target, beside) for one in self.generalists}
        share = sum(score > 0.5 for score in votes.values()) / len(votes)
        return known | {"votes": votes, "weight": share if share > 0.5 else 0.0}


def _open(path: Path, columns: dict[str, str], made_of: dict[str, Any], ranks: Ranks) -> Store:
    """A store as every process sees it; rank 0 first, which makes it and brings in what killed processes left."""
    if not ranks.first:
        ranks.wait()
        return Store(path, columns, made_of, ranks.rank)
    store = Store(path, columns, made_of, renew=True)
    store.merge()
    ranks.wait()
    return store


def _together(store: Store, ranks: Ranks) -> None:
    """Bring together what all processes did."""
    store.settle()
    ranks.wait()
    if ranks.first:
        store.merge()
    ranks.wait()


def _judge_all(bench: _Bench, named: Store, manifest: Store, watch: Watch) -> tuple[float, int]:
    """Judge this process's pairs that have no row yet; the seconds that took, and how many they are."""
    done = manifest.done(named.count())
    own = np.flatnonzero(~done)
    own = own[own % bench.ranks.count == bench.ranks.rank]
    began = time.perf_counter()
    for count, row in enumerate(_rows(named, own), 1):
        manifest.add(row["number"], bench.judge(row))
        watch(count, len(own))
    return time.perf_counter() - began, len(own)


def _rows(named: Store, numbers: np.ndarray) -> Iterator[dict[str, Any]]:
    """Rows of these numbers, a chunk at a time."""
    for start in range(0, len(numbers), CHUNK):
        some = numbers[start : start + CHUNK].tolist()
        yield from named.rows(f"number IN ({', '.join(map(str, some))})")


def _conclude(
    manifest: Store,
    out: Path,
    roots: Sequence[Path],
    references: References,
    strictness: float,
    budget: int | None,
    per_type: int | None,
) -> dict[str, Any]:
    """Select, and write what is kept and the report."""
    found = select(manifest, strictness, budget, per_type)
    (out / "kept.jsonl").unlink(missing_ok=True)
    kept = write_kept(manifest, out, roots)
    figures = {"pairs": manifest.count(), "kept": kept, "outcomes": found, "references": len(references)}
    figures |= {"strictness": strictness, "budget": budget, "per_type": per_type}
    write_report(out / "report.html", manifest, roots, references, figures)
    if not kept:
        raise UserError(f"{out}: no pair was kept: {_all_rejected(manifest)}; see {out / 'report.html'}")
    return figures


def _all_rejected(manifest: Store) -> str:
    """Which judge did it, and how far the pairs are from being trusted."""
    whole: dict[str, int] = {}
    for outcome, count in manifest.groups("outcome"):
        if outcome != KEPT:
            whole[outcome] = count
    worst = sorted(whole.items(), key=lambda item: -item[1])[:3]
    told = ", ".join(f"{count} for {outcome}" for outcome, count in worst)
    shares = [row["p"] for row in manifest.rows("p IS NOT NULL", order="p")] if manifest.count() < MILLION else []
    quantiles = ", ".join(f"{value:.3f}" for value in np.quantile(shares, (0.5, 0.9, 1.0))) if shares else ""
    return told + (f"; half, nine tenths and all of them have p up to {quantiles}" if quantiles else "")


def _cost(spent: Sequence[tuple[float, int]], ranks: int) -> dict[str, Any]:
    """Seconds of one process per pair that was judged in this call, and what a million of them would take."""
    seconds, count = (sum(values) for values in zip(*spent, strict=True))
    if not count:
        return {"judged_now": 0}
    each = seconds / count
    return {
        "judged_now": count,
        "processes": ranks,
        "seconds_per_pair": each,
        "hours_per_million_and_process": each * MILLION / 3600,
    }


def _resolved(path: str | Path | None) -> str:
    return str(Path(path).resolve()) if path else ""


def _check(
    roots: Sequence[Path], strictness: float, budget: int | None, per_type: int | None, kind: str | None
) -> None:
    if not roots:
        raise UserError("no folder of pairs: give one or more")
    if not 0 < strictness < 1:
        raise UserError(f"strictness {strictness:g} must be between 0 and 1: share of trusted pairs that may be lost")
    for name, value in (("budget", budget), ("per_type", per_type)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value} must be at least 1 pair")
    if kind is not None and kind not in RAIN_TYPES:
        raise UserError(f"type must be {either(list(RAIN_TYPES))}, got {kind!r}")
