"""Indexing real rainy photographs, so that those like a rainy image are found; it goes on where it was killed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..config.rain_types import FIT_ITERATIONS, RAIN_TYPES
from ..data import list_images, read_image
from ..data.folder_set import digest
from ..data.layouts import type_of
from ..errors import UserError
from ..system.distributed import Ranks, process_group
from ..system.given import check_seed
from ..system.names import name_bytes, takes_home
from ..system.watch import Watch, nobody
from .embeddings import embed
from .encoders import Encoders, check_encoders, identity_of, load_encoders
from .index_files import (
    COLUMNS,
    DATABASE,
    LEAST,
    NETWORK,
    WORDS,
    Catalogue,
    create_arrays,
    open_arrays,
    shapes_by,
)
from .store import Store, alone
from .type_network import (
    clean_scenes,
    counts_of,
    fit_type_network,
    load_type_network,
    save_type_network,
    sure_type,
)

BLOCK = 4096  # photographs whose captions are read at once
LOST = "another process of this index was lost, and its own message says why: start again, it goes on where it was"


@takes_home
def index(
    references: str | Path,
    output: str | Path,
    *,
    clean: str | Path | None = None,
    clip: str | Path | None = None,
    captions: str | Path | None = None,
    iterations: int = FIT_ITERATIONS,
    seed: int = 0,
    device: str = "auto",
    watch: Watch = nobody,
    watch_fit: Watch = nobody,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Index real rainy photographs, which need neither labels nor clean versions.

    Called again with the same photographs and options it goes on, and ends in the same index. Processes that torchrun
    started share the work.

    Args:
        references: folder of photographs, searched recursively, 20 at least. Of one whose folders tell
            no type (drs, drd, nrs, nrd; streak, raindrop, night) a network says it, where it is sure enough.
        output: folder of the index.
        clean: folder of clean photographs, on which rain is rendered to fit that network; default: embedded ones.
        clip: folder of a CLIP model of transformers, whose features of images take the place of our own.
        captions: folder of a captioner of transformers, such as BLIP, whose words CLIP compares in place of numbers.
        iterations: of that network's fit.
        seed: of the same.
        device: auto, cpu, cuda or cuda:N.
        watch, watch_fit: told how many of this process's photographs are done, and how far that fit is.
        say: told what is done, a line each.

    Returns:
        How many photographs there are, of each type, and left out; and seconds per photograph.

    Raises:
        UserError: too few photographs, an index of other ones in `output`, or a model that cannot be loaded.
    """
    check_seed(seed)
    looks, words = (Path(one) if one else None for one in (clip, captions))
    check_encoders(looks, words)
    identity = identity_of(looks, words)
    if iterations < 1:
        raise UserError(f"iterations {iterations} must be at least 1: the fit tells types of rain apart")
    folder, out = Path(references), Path(output)
    paths = list_images(folder)
    if len(paths) < LEAST:
        raise UserError(f"{folder} has {len(paths)} photographs, at least {LEAST} needed: retrieval means nothing here")
    made_of = {
        "references": str(folder.resolve()),
        "photographs": _digest([path.relative_to(folder).as_posix() for path in paths]),
        **{"clean": str(Path(clean).resolve()) if clean else "embedded", "iterations": iterations, "seed": seed},
        **identity,
    }
    with process_group(device, LOST) as ranks, alone(out, ranks):
        encoders, columns = load_encoders(looks, words, ranks.device), COLUMNS | (WORDS if words else {})
        if ranks.first:
            store = Store(out / DATABASE, columns, made_of)
            create_arrays(out, len(paths), shapes_by(encoders))
            _fit(out / NETWORK, Path(clean) if clean else None, iterations, seed, ranks, watch_fit, say)
            store.merge()
        ranks.wait()
        if not ranks.first:
            store = Store(out / DATABASE, columns, made_of, ranks.rank)
        began, before = time.perf_counter(), store.count()
        _describe(folder, paths, out, store, encoders, ranks, watch)
        store.settle()
        ranks.wait()
        if ranks.first:
            store.merge()
            if store.recall("captions") is None:
                _finish(out, store, encoders, identity)
        ranks.wait()
        figures = _figures(out, store, (time.perf_counter() - began) / max(store.count() - before, 1))
        store.close()
    return figures


def _fit(path: Path, clean: Path | None, iterations: int, seed: int, ranks: Ranks, watch: Watch, say: Any) -> None:
    """Fit the network that tells types apart, where there is none yet."""
    if path.is_file():
        return
    scenes = clean_scenes(clean)
    of = f"{clean}" if clean else "embedded photographs, which are few: --clean DIR names better ones"
    say(f"fitting what tells types of rain apart, on {len(scenes)} scenes of {of}")
    save_type_network(fit_type_network(scenes, seed, iterations, ranks.device, watch), path)


def _describe(
    folder: Path, paths: list[Path], out: Path, store: Store, encoders: Encoders, ranks: Ranks, watch: Watch
) -> None:
    """Read and describe every photograph of this process's that has no row yet."""
    network, arrays = load_type_network(out / NETWORK, ranks.device), open_arrays(out, len(paths), shapes_by(encoders))
    done = store.done(len(paths))
    own = [number for number in range(ranks.rank, len(paths), ranks.count) if not done[number]]
    for count, number in enumerate(own, 1):
        row: dict[str, Any] = {"path": paths[number].relative_to(folder).as_posix()}
        try:
            image = read_image(paths[number])
        except UserError as error:
            row["left_out"] = str(error)
        else:
            seen = embed(image, network, ranks.device, encoders)
            for name, array in arrays.items():
                array[number] = getattr(seen, {"captions": "caption", "thumbs": "thumb"}.get(name, name))
            folders = PurePosixPath(row["path"]).parent.as_posix()
            kind = type_of(f"{folders}/photograph") or sure_type(seen.probabilities.tolist())
            row |= {"height": image.shape[0], "width": image.shape[1], "digest": digest(image), "type": kind}
            row |= {"caption": seen.words} if encoders.captioner else {}
        store.add(number, row)
        watch(count, len(own))


def _finish(out: Path, store: Store, encoders: Encoders, identity: dict[str, list[str]]) -> None:
    """Find mean and deviation of the captions, by which they are compared; with them an index is complete."""
    left_out = {row["number"] for row in store.rows("left_out IS NOT NULL")}
    arrays = open_arrays(out, store.count(), shapes_by(encoders))
    captions, hashed = arrays["captions"], hashlib.blake2b(digest_size=16)
    total, squares, count = np.zeros(captions.shape[1]), np.zeros(captions.shape[1]), 0
    for start in range(0, len(captions), BLOCK):
        kept = [i for i in range(start, min(start + BLOCK, len(captions))) if i not in left_out]
        block = captions[kept].astype(np.float64)
        total, squares, count = total + block.sum(0), squares + np.square(block).sum(0), count + len(kept)
        hashed.update(block.tobytes())
    if count < LEAST:
        raise UserError(f"{out}: {count} of {store.count()} photographs can be read, at least {LEAST} needed")
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0)) + 1e-3  # a number that all share divides by nothing
    if encoders.captioner:  # vectors of length 1 are compared as they are
        mean, deviation = np.zeros_like(mean), np.ones_like(deviation)
    hashed.update(json.dumps(identity).encode() if identity else b"")  # of what looks are
    for array in arrays.values():
        array.flush()  # type: ignore[attr-defined]
    store.note("digest", hashed.hexdigest())
    store.note("captions", [mean.tolist(), deviation.tolist()])


def _figures(out: Path, store: Store, seconds: float) -> dict[str, Any]:
    types = Catalogue(out).types
    names = list(RAIN_TYPES)
    counts = counts_of(names[number] if number >= 0 else "" for number in types if number > -2)
    left_out = [(row["path"], row["left_out"]) for row in store.rows("left_out IS NOT NULL")]
    return {
        "photographs": int((types > -2).sum()),
        "types": counts,
        "left_out": left_out,
        "seconds_per_photograph": seconds,
    }


def _digest(names: list[str]) -> str:
    return hashlib.blake2b(b"\0".join(map(name_bytes, names)), digest_size=16).hexdigest()
