"""Types of rain of labelled pairs whose layout and names tell none: a network says them, where it is sure enough."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..config import DataConfig
from ..config.rain_types import FIT_ITERATIONS, RainType
from ..data import ImageSet
from ..data.open_pairs import TellTypes
from ..data.sampler import evenly
from ..distillation.embeddings import type_probabilities
from ..distillation.index_files import NETWORK
from ..distillation.type_network import (
    NIGHT,
    SCENES,
    TYPES,
    clean_scenes,
    fit_type_network,
    load_type_network,
    middle,
    save_type_network,
    sure_type,
)
from ..errors import UserError
from ..system.files import write_text
from ..system.given import no_index
from ..system.progress import Progress

FEWEST = 6  # scenes by day that a fit wants: as many as are embedded


def find_types(data: DataConfig, cache: Path, seed: int, device: torch.device, progress: Progress) -> TellTypes | None:
    """What `load_domains` asks for the types of pairs, where `data.pairs_type` is auto.

    The network is that of the index `data.pairs_index`; without, it is fitted to rain rendered on the clean images of
    the pairs. It and what it said are kept in the cache, so that a resumed run and other ranks have the same.

    Args:
        data: names the pairs.
        cache: folder of both; `data.cache_dir` comes before it.
        seed: of the fit.
        device: of the network.
        progress: told what is done.

    Raises:
        UserError: the index is none.
    """
    if data.pairs_type != "auto":
        return None
    folder, index = data.cache_dir or cache, data.pairs_index
    if index is not None and not (index / NETWORK).is_file():
        raise UserError(f"data.pairs_index: {no_index(index)}")

    def tell(rainy: ImageSet, clean: ImageSet, places: Sequence[tuple[int, int]]) -> list[RainType | None]:
        if index is not None:
            path = index / NETWORK
        else:
            path = _fitted(folder, clean, sorted({there for _, there in places}), seed, device, progress)
        network = load_type_network(path, device)
        answers = folder / f"types-{hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()}.json"
        said, watch = _read(answers), progress.of("types of pairs")
        for done, (here, _) in enumerate(places, 1):
            digest = rainy.digests[here]
            if said.get(digest) not in ("", *TYPES):
                said[digest] = sure_type(type_probabilities(rainy[here], network, device).tolist())
            watch(done, len(places))
        folder.mkdir(parents=True, exist_ok=True)
        write_text(answers, json.dumps(said) + "\n")
        names = (said[rainy.digests[here]] for here, _ in places)
        return [next((kind for kind in TYPES if kind == name), None) for name in names]

    return tell


def _read(path: Path) -> dict[str, str]:
    """What a network said of images, by their digests; of a damaged file nothing."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _fitted(
    folder: Path, clean: ImageSet, places: Sequence[int], seed: int, device: torch.device, progress: Progress
) -> Path:
    """The file of a network that is fitted to rain rendered on these clean images, those by day."""
    places = list({clean.digests[place]: place for place in places}.values())  # sets repeat a scene by type of rain
    chosen = [places[i] for i in evenly(len(places), SCENES)]
    made_of = f"{seed} {FIT_ITERATIONS} {' '.join(clean.digests[place] for place in chosen)}"
    path = folder / f"types-{hashlib.blake2b(made_of.encode(), digest_size=8).hexdigest()}.safetensors"
    if path.is_file():
        return path
    scenes = [image for place in chosen if np.median(image := middle(clean[place])) >= 255 * NIGHT]
    of = f"{len(scenes)} clean images of data.pairs"
    if len(scenes) < FEWEST:
        scenes, of = clean_scenes(None), "embedded photographs, as data.pairs has few clean images by day"
    progress.say(f"data.pairs: fitting what tells types of rain apart, on {of}; data.pairs_index takes an index's")
    network = fit_type_network(scenes, seed, FIT_ITERATIONS, device, progress.of("fitting types of rain"))
    folder.mkdir(parents=True, exist_ok=True)
    save_type_network(network, path)
    return path
