"""The images that a configuration names, opened: both domains and the validation pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..config import DataConfig
from ..config.asked import check_sources
from ..config.rain_types import RAIN_TYPES
from ..errors import UserError
from .demo import load_demo
from .domains import Domains, Pair
from .folder_set import FolderSet, Progress
from .image_files import natural
from .image_set import ImageSet
from .layouts import type_of
from .open_pairs import TellTypes, open_pairs, render_demo_pairs, validation_pairs
from .pairing import match_names
from .pairs import PairSet
from .shard_set import ShardSet

_NAMED = 10  # images that one warning names; it counts the rest


def load_domains(
    data: DataConfig,
    cache_dir: Path,
    warn: Callable[[str], None],
    progress: Progress | None = None,
    labelled: bool = False,
    tell_types: TellTypes | None = None,
) -> Domains:
    """Open the images that the configuration names.

    Args:
        data: the folders or shards, or `demo` for the embedded photographs.
        cache_dir: where decoded folders are kept; `data.cache_dir` comes before it.
        warn: called with one line for each set in which files are of another kind, or images cannot be used and were
            left out, and for each kind of overlap between the sets that should share no image.
        progress: called with (images decoded, images in all) while a folder is decoded for the first time, and with
            (shards opened, shards in all).
        labelled: labelled pairs are enough: without the two folders their sides are rainy and clean. Of the demo they
            are rendered.
        tell_types: says the types of pairs that no name tells; see `open_pairs`.

    Raises:
        UserError: a field that is missing or contradicts another, a bad folder or image, pairs that do not match.
    """
    check_sources(data, labelled)
    if data.demo:
        return _of_pairs(render_demo_pairs(load_demo().clean)) if labelled else load_demo()
    pairs = None
    if data.pairs:
        kind = next((kind for kind in RAIN_TYPES if kind == data.pairs_type), None)
        cache = data.cache_dir or cache_dir
        try:
            pairs = open_pairs(data.pairs, cache, warn, kind, data.held_out, progress, tell_types)
        except UserError as error:
            raise UserError(f"data.pairs: {error}") from None
    alone = labelled and data.rainy is None and data.clean is None

    def open_set(field: str) -> ImageSet:
        try:
            images = _open(getattr(data, field), data, data.cache_dir or cache_dir, progress)
        except UserError as error:
            raise UserError(f"data.{field}: {error}") from None
        if images.passed_over:
            warn(f"data.{field}: passed over: {images.passed_over}")
        if images.skipped:
            warn(_skip_message(field, images))
        return images

    sets = {} if alone else {field: open_set(field) for field in ("rainy", "clean")}
    val = None
    if data.val_rainy is not None and data.val_clean is not None:
        sets |= {field: open_set(field) for field in ("val_rainy", "val_clean")}
        val = pair_up(sets["val_rainy"], sets["val_clean"], str(data.val_rainy))
    if pairs is not None:
        sets["pairs"] = pairs.rainy
    _warn_of_overlap(sets, warn)
    skipped_pairs = 0 if val is None else len(_all_names(sets["val_rainy"])) - len(val)
    if alone and pairs is not None:
        return _of_pairs(pairs, val, skipped_pairs)
    return Domains(sets["rainy"], sets["clean"], val, skipped_pairs, pairs)


def _of_pairs(pairs: PairSet, val: list[Pair] | None = None, skipped: int = 0) -> Domains:
    """Labelled pairs alone; those held out validate where nothing else does."""
    return Domains(pairs.rainy, pairs.clean, val or validation_pairs(pairs) or None, skipped, pairs)


def _open(source: str | Path, data: DataConfig, cache_dir: Path, progress: Progress | None) -> ImageSet:
    if isinstance(source, Path):
        return FolderSet.from_folder(source, cache_dir, progress)
    return ShardSet.open(source, cache_dir, data.cache_gib, progress)


def pair_up(rainy: ImageSet, clean: ImageSet, root: str = "") -> list[Pair]:
    """Match validation images by their names; a pair with an image that was skipped is left out.

    What names tell of a type of rain is noted, with that of the folder `root`.

    Raises:
        UserError: names that do not match (see `match_names`), unequal sizes, or no pair left; the message names the
            first mismatch.
    """
    names = _all_names(rainy), _all_names(clean)
    partners = match_names(names[0], names[1], "data.val_rainy", "data.val_clean")
    here, there = ({name: i for i, name in enumerate(images.names)} for images in (rainy, clean))
    pairs = []
    for number, (rainy_name, place) in enumerate(zip(names[0], partners, strict=True), start=1):
        clean_name = names[1][place]
        if rainy_name in rainy.skipped or clean_name in clean.skipped:
            continue
        i, j = here[rainy_name], there[clean_name]
        if rainy.sizes[i] != clean.sizes[j]:
            (h, w), (ch, cw) = rainy.sizes[i], clean.sizes[j]
            raise UserError(
                f"validation pair {number}: data.val_rainy's {rainy_name} is {w} x {h} pixels and data.val_clean's "
                f"{clean_name} {cw} x {ch}; a pair needs the same scene at the same size"
            )
        pairs.append(Pair(rainy_name, rainy[i], clean[j], type_of(f"{Path(root).name}/{rainy_name}")))
    if not pairs:
        raise UserError("data.val_rainy and data.val_clean: every pair has an image that cannot be used; replace those")
    return pairs


def _all_names(images: ImageSet) -> list[str]:
    """The names of all images that are there, usable or not, in order."""
    return sorted([*images.names, *images.skipped], key=natural) if images.skipped else images.names


def _skip_message(field: str, images: ImageSet) -> str:
    """Name the images of a set that cannot be used, and say why."""
    reasons = [f"{name}: {reason}" for name, reason in images.skipped.items()]
    more = [f"and {len(reasons) - _NAMED} more"] if len(reasons) > _NAMED else []
    count, found = len(reasons), len(reasons) + len(images)
    return f"data.{field}: {count} of {found} images cannot be used and {'is' if count == 1 else 'are'} skipped: " + (
        "; ".join(reasons[:_NAMED] + more)
    )


def _warn_of_overlap(sets: dict[str, ImageSet], warn: Callable[[str], None]) -> None:
    """Name images, equal in every pixel, that are in two sets (one file reached by two paths is such a case)."""
    for one, other, harm in (
        ("rainy", "clean", "the two domains are no longer rainy and clean"),
        ("rainy", "val_rainy", "validation is not held out"),
        ("clean", "val_clean", "validation is not held out"),
        ("rainy", "val_clean", "validation is not held out"),
        ("clean", "val_rainy", "validation is not held out"),
        ("pairs", "val_rainy", "validation is not held out"),
    ):
        if one not in sets or other not in sets:
            continue
        there = dict(zip(sets[other].digests, sets[other].names, strict=True))
        here = zip(sets[one].digests, sets[one].names, strict=True)
        shared = [name if name == there[key] else f"{name} ({there[key]})" for key, name in here if key in there]
        if shared:
            more = f" and {len(shared) - _NAMED} more" if len(shared) > _NAMED else ""
            named = ", ".join(shared[:_NAMED]) + more
            warn(f"in both data.{one} and data.{other}: {named}; {harm}, so remove the image from one of them")
