"""The parts of `bench/unirain.py` about distillation: judges, retrieval, distilled data, cost."""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import rgsud_fast
from rgsud_fast.data import list_images, read_image
from rgsud_fast.data.layouts import read_layout
from rgsud_fast.data.weather import render_pair
from rgsud_fast.distillation.embeddings import embed
from rgsud_fast.distillation.faults import FAULTS, OTHER, Pair, plant
from rgsud_fast.distillation.index_files import NETWORK
from rgsud_fast.distillation.measures import measure
from rgsud_fast.distillation.references import References
from rgsud_fast.distillation.search import Graph, has_faiss, nearest
from rgsud_fast.distillation.specialists import Measures, Panel
from rgsud_fast.distillation.type_network import TYPES, middle

STRICT = (0.05, 0.1, 0.2)
# What trains here: half of the preset's levels, and crops of half the side, which fifteen runs have time for.
SMALL: dict[str, Any] = {
    "preset": "unirain-small",
    "batch": 8,
    "crop": 64,
    "network": {"derainer": "moe", "derainer_width": 12, "derainer_encoder": [1, 1], "derainer_decoder": [1, 1]},
    "loss": {"labelled_floor": 0.0, "pasted_floor": 1e-3},
}
GOOD, SPOILED = 400, 600  # pairs of the merged set
BASE = 18  # held-out scenes that are references, the rest are queries
SEARCHED = (10_000, 100_000, 1_000_000)
LEVELS = {  # how many pass by caption, looks, structure
    "all three": (100, 20, 4),
    "without the caption": (0, 20, 4),
    "without looks": (100, 0, 4),
    "without structure": (100, 4, 0),
    "caption alone": (4, 0, 0),
    "looks alone": (0, 4, 0),
    "structure alone": (0, 0, 4),
}


def preset(args: argparse.Namespace) -> dict[str, Any]:
    """What trains: the preset as it is, or its half."""
    return {"preset": SMALL["preset"]} if args.whole else SMALL


class _Good(NamedTuple):
    """A rendered pair without a fault."""

    scene: int
    pair: Pair
    measures: Measures


def judges(args: argparse.Namespace) -> dict[str, Any]:
    """AUC and share that passes per planted fault, per type and in all; trusted loss; Rain100L as a foreign set."""
    references = _references(args)
    halves = [_measured_half(args, references, half) for half in (0, 1)]
    panels, others = (
        {kind: Panel.fit([one.measures for one in own], [one.scene for one in own]) for kind, own in half.items()}
        for half in halves
    )
    blind = {
        kind: Panel.fit([_blind(one.measures) for one in own], [one.scene for one in own])
        for kind, own in halves[0].items()
    }
    good = halves[1]
    p = {kind: np.array([panels[kind].judge(one.measures).p for one in own]) for kind, own in good.items()}
    back = {kind: np.array([others[kind].judge(one.measures).p for one in own]) for kind, own in halves[0].items()}
    of_good = np.concatenate(list(p.values()))
    unseen = np.concatenate([of_good, *back.values()])
    figures: dict[str, Any] = {
        "trusted_loss": {f"{s:g}": float((unseen < s).mean()) for s in STRICT},
        "trusted_loss_by_type": {kind: float((np.append(p[kind], back[kind]) < 0.05).mean()) for kind in TYPES},
        "trusted_pairs": len(unseen),
        "faults": {},
    }
    rng, spoiled, without = np.random.default_rng(0), [], []
    dim = np.concatenate([[blind[k].judge(_blind(one.measures)).p for one in own] for k, own in good.items()])
    for fault in (*FAULTS, OTHER):
        found, found_blind = {}, []
        for kind, own in good.items():
            chosen = own[:: max(len(own) // args.spoiled, 1)][: args.spoiled]
            bad = [plant(fault, one.pair, chosen[i - 1].pair, rng) for i, one in enumerate(chosen)]
            measured = [_measured(references, kind, one) for one in bad]
            found[kind] = np.array([panels[kind].judge(one).p for one in measured])
            found_blind += [blind[kind].judge(_blind(one)).p for one in measured]
        every = np.concatenate(list(found.values()))
        spoiled.append(every)
        without.append(np.array(found_blind))
        figures["faults"][fault] = _row(of_good, every) | {k: _auc(p[k], v) for k, v in found.items()}
        figures["faults"][fault]["auc_without_references"] = _auc(dim, without[-1])
        print(fault, figures["faults"][fault], flush=True)
    figures["all"] = _row(of_good, np.concatenate(spoiled))
    figures["all_without_references"] = _row(dim, np.concatenate(without))
    wrong = [panels[as_].judge(one.measures).p for as_ in TYPES for kind in TYPES if kind != as_ for one in good[kind]]
    figures["wrong type"] = _row(of_good, np.array(wrong))
    figures["rain100l"] = _foreign(args, references, panels["drs"], np.concatenate(spoiled))
    return figures


def retrieval(args: argparse.Namespace) -> dict[str, Any]:
    """Share of the query's type among what is found without the type filter, with each level removed in turn."""
    first = _references(args)
    folder, out = args.out / "rendered_references", args.out / "rendered_index"
    queries = []
    for kind, place, pair in _rendered(args, 1):
        if place < BASE:
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pair[0]).save(folder / kind / f"{place:03d}.png")
        else:
            queries.append((kind, embed(pair[0], first.network)))
    out.mkdir(parents=True, exist_ok=True)
    shutil.copy(first.folder / NETWORK, out / NETWORK)
    rgsud_fast.index(folder, out, device=args.device)
    references = References(out)
    figures: dict[str, Any] = {"references": len(references), "queries": len(queries)}
    for name, levels in LEVELS.items():
        found = [(kind, [TYPES[references.types[i]] for i in references.nearest(q, "", levels)]) for kind, q in queries]
        same = [np.mean([other == kind for other in kinds]) for kind, kinds in found]
        night = [np.mean([other[0] == kind[0] for other in kinds]) for kind, kinds in found]
        figures[name] = {"same_type": float(np.mean(same)), "day_or_night": float(np.mean(night))}
    named = [TYPES[int(np.argmax(query.probabilities))] == kind for kind, query in queries]
    return figures | {"types_named_right": float(np.mean(named))}


def distilled(args: argparse.Namespace) -> dict[str, Any]:
    """PSNR per seed after training on good pairs alone, on all merged, and on those that were distilled."""
    folder, rng = args.out / "sets", np.random.default_rng(0)
    good = list(_rendered(args, 0, renderings=-(-(GOOD + SPOILED) // (len(TYPES) * _half(args, 0)))))
    order = rng.permutation(len(good))[: GOOD + SPOILED]
    names = [*FAULTS, OTHER]
    for number, place in enumerate(order):
        kind, _, pair = good[place]
        if number >= GOOD:
            pair = plant(names[number % len(names)], pair, good[order[number - 1]][2], rng)
        for name in ("merged",) if number >= GOOD else ("merged", "good"):
            _write(folder / name / kind, f"{number:04d}", pair)
    for kind, place, pair in _rendered(args, 1):
        _write(folder / "measured" / kind, f"{place:04d}", pair)
    trusted = args.out / "clean_0"
    _references(args)
    rgsud_fast.distil(args.out / "index", folder / "merged", folder / "distilled", clean=trusted, device=args.device)
    figures: dict[str, Any] = {}
    for name in ("good", "merged", "distilled"):
        figures[name] = []
        for seed in args.seeds:
            out = args.out / "trained" / f"{name}-{seed}"
            fields = preset(args) | {"data": {"pairs": [str(folder / name)]}, "out": str(out), "seed": seed}
            fields |= {"stage1_iterations": args.iterations, "device": args.device, "threads": args.threads}
            fields |= {"val_every": 0, "log_gradients": False, "live_gallery": False}
            result = rgsud_fast.train(fields, quiet=True)
            figures[name].append(_psnr(result.run_dir, folder / "measured"))
            print(name, seed, figures[name][-1], flush=True)
    return figures


def cost(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of an index per photograph, of a pair and of a search; the memory that a process takes at most."""
    shutil.rmtree(args.out / "cost", ignore_errors=True)
    references = _references(args)
    (args.out / "cost" / "index").mkdir(parents=True)
    shutil.copy(references.folder / NETWORK, args.out / "cost" / "index" / NETWORK)
    indexed = rgsud_fast.index(args.data / "real_rain", args.out / "cost" / "index", device=args.device)
    pairs = args.data / "rain100l/val"
    judged = rgsud_fast.distil(
        *(references.folder, pairs, args.out / "cost" / "distilled"),
        **{"clean": args.out / "clean_0", "type": "drs", "strictness": 1e-6, "device": args.device},
    )
    figures = {"index_seconds_per_photograph": indexed["seconds_per_photograph"]}
    figures |= {key: judged[key] for key in ("seconds_per_pair", "hours_per_million_and_process")}
    figures |= _seconds_of_cpu(
        references, [(read_image(one.rainy), read_image(one.clean)) for one in read_layout(pairs)]
    )
    rng = np.random.default_rng(0)
    for count in SEARCHED:
        base = rng.normal(size=(count, 12)).astype(np.float32)
        figures[f"search_of_{count}"] = _seconds(lambda base=base: nearest(base, base[7], 100))
    if has_faiss():
        graph = Graph(base[: SEARCHED[1]])
        figures[f"graph_of_{SEARCHED[1]}"] = _seconds(lambda: graph.nearest(base[7], 100))
    return figures | {"memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _references(args: argparse.Namespace) -> References:
    """The index of the real photographs, whose network is fitted to the first half of the clean ones."""
    for half in (0, 1):
        _half(args, half)
    options = {"clean": args.out / "clean_0", "iterations": args.fit, "device": args.device}
    rgsud_fast.index(args.data / "real_rain", args.out / "index", say=print, **options)
    return References(args.out / "index")


def _half(args: argparse.Namespace, half: int) -> int:
    """Link every second clean photograph into a folder; how many they are."""
    folder = args.out / f"clean_{half}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = list_images(args.data / "clean")[half::2]
    for path in paths:
        if not (folder / path.name).exists():
            os.symlink(path.resolve(), folder / path.name)
    return len(paths)


def _rendered(args: argparse.Namespace, half: int, renderings: int = 1) -> Iterator[tuple[str, int, Pair]]:
    """Pairs of the four types on one half of the clean photographs: type, scene, pair."""
    _half(args, half)
    for place, path in enumerate(list_images(args.out / f"clean_{half}")):
        image = middle(read_image(path))
        for kind in TYPES:
            for rendering in range(renderings):
                yield kind, place, render_pair(image, kind, (half, place, rendering))


def _measured(references: References, kind: str, pair: Pair) -> Measures:
    seen = embed(pair[0], references.network)
    return measure(*pair, references.distance(seen, references.nearest(seen, kind)))


def _measured_half(args: argparse.Namespace, references: References, half: int) -> dict[str, list[_Good]]:
    """Two rendered pairs of each type on each scene of a half, by type."""
    found: dict[str, list[_Good]] = {kind: [] for kind in TYPES}
    for kind, place, pair in _rendered(args, half, renderings=2):
        found[kind].append(_Good(place, pair, _measured(references, kind, pair)))
    return found


def _blind(measures: Measures) -> Measures:
    """Without what the references say."""
    return {**measures, "rain": np.append(measures["rain"][:-1], 0.0)}


def _foreign(args: argparse.Namespace, references: References, panel: Panel, spoiled: np.ndarray) -> dict[str, float]:
    """Rain100L's pairs, whose rain nothing was fitted to."""
    pairs = [(read_image(one.rainy), read_image(one.clean)) for one in read_layout(args.data / "rain100l/val")]
    p = np.array([panel.judge(_measured(references, "drs", pair)).p for pair in pairs])
    return {"auc": _auc(p, spoiled), "kept": float((p >= 0.05).mean()), "pairs": len(p)}


def _row(good: np.ndarray, bad: np.ndarray) -> dict[str, float]:
    return {"auc": _auc(good, bad), "passes": float((bad >= 0.05).mean())}


def _auc(good: np.ndarray, bad: np.ndarray) -> float:
    """How often a good pair has the higher p; ties count half."""
    return float(((good[:, None] > bad) + 0.5 * (good[:, None] == bad)).mean())


def _write(folder: Path, name: str, pair: Pair) -> None:
    for side, image in zip(("input", "target"), pair, strict=True):
        (folder / side).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / side / f"{name}.png")


def _psnr(run: Path, measured: Path) -> float:
    found = [rgsud_fast.evaluate(run, measured / kind / "input", measured / kind / "target") for kind in TYPES]
    return float(np.mean([one["psnr_rgb"] for one in found]))


def _seconds_of_cpu(references: References, pairs: list[Pair]) -> dict[str, float]:
    """What each part of judging a pair takes of a core, however busy the machine is."""
    spent = dict.fromkeys(("describing", "retrieval", "measures"), 0.0)
    for rainy, target in pairs:
        times = [time.process_time()]
        seen = embed(rainy, references.network)
        times.append(time.process_time())
        distance = references.distance(seen, references.nearest(seen, "drs"))
        times.append(time.process_time())
        measure(rainy, target, distance)
        times.append(time.process_time())
        for name, taken in zip(spent, np.diff(times), strict=True):
            spent[name] += float(taken) / len(pairs)
    return {f"cpu_seconds_of_{name}": value for name, value in spent.items()}


def _seconds(call: Any, times: int = 5) -> float:
    taken = []
    for _ in range(times):
        began = time.process_time()  # of a core, however busy the machine is
        call()
        taken.append(time.process_time() - began)
    return min(taken)
