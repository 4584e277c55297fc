"""Labelled pairs opened from folders, in whatever layout, or rendered for the demo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from ..config.rain_types import RAIN_TYPES, UNKNOWN, RainType
from ..errors import UserError
from .domains import Pair
from .folder_set import FolderSet, HalfFile, Progress
from .image_set import ImageSet
from .layouts import PairFiles, read_layout
from .pairs import KINDS, PairSet, hold_out
from .sampler import evenly
from .weather import render_pair

# Says the types of pairs, by both sets and the places of each pair's images in them; None where it is not sure.
TellTypes = Callable[[ImageSet, ImageSet, Sequence[tuple[int, int]]], list[RainType | None]]

VALIDATED = 8  # held-out pairs of a type that are measured whole, where no validation folders are given
_NAMED = 5  # pairs that one warning names


def open_pairs(
    folders: Sequence[Path],
    cache_dir: Path,
    warn: Callable[[str], None],
    kind: RainType | None = None,
    share: float = 0.1,
    progress: Progress | None = None,
    tell_types: TellTypes | None = None,
) -> PairSet:
    """Open the labelled pairs below folders, each in a layout that is known (`layouts.LAYOUTS`).

    Args:
        folders: at least one.
        cache_dir: where decoded images are kept.
        warn: called with a line about pairs that cannot be used.
        kind: type of the pairs whose type nothing tells.
        share: of each type's pairs that are held out.
        progress: called with (images decoded, images in all).
        tell_types: says the types of those in place of `kind`.

    Raises:
        UserError: an unknown layout, pairs that do not match, of unequal size, or none that can be used.
    """
    files = [pair for folder in folders for pair in read_layout(folder)]
    rainy, wet = _open_side(files, "rainy", folders, cache_dir, progress)
    clean, dry = _open_side(files, "clean", folders, cache_dir, progress)
    used: list[PairFiles] = []
    places: list[tuple[int, int]] = []
    for pair, here, there in zip(files, wet, dry, strict=True):
        if here is None or there is None:
            continue
        if rainy.sizes[here] != clean.sizes[there]:
            (h, w), (ch, cw) = rainy.sizes[here], clean.sizes[there]
            raise UserError(
                f"{pair.rainy} is {w} x {h} pixels and its clean version {pair.clean} {cw} x {ch}; a pair needs the "
                "same scene at the same size"
            )
        used.append(pair)
        places.append((here, there))
    if len(used) < len(files):
        reasons = [f"{name}: {reason}" for name, reason in {**rainy.skipped, **clean.skipped}.items()]
        more = f"; and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
        left = f"{len(files) - len(used)} of {len(files)} pairs are skipped"
        warn(f"data.pairs: {left}: {'; '.join(reasons[:_NAMED])}{more}")
    kinds = [_place(pair.kind or kind) for pair in used]
    nameless = [i for i, place in enumerate(kinds) if place == UNKNOWN]
    if nameless and tell_types is not None:
        told = tell_types(rainy, clean, [places[i] for i in nameless])
        for i, found in zip(nameless, told, strict=True):
            kinds[i] = _place(found)
        counts = ", ".join(f"{told.count(one)} {one or 'unknown, with weight 1'}" for one in (*KINDS, None))
        warn(f"data.pairs: no name tells the type of {len(nameless)} pairs; a network says: {counts}")
    elif nameless:
        warn(
            f"data.pairs: no name tells the type of {len(nameless)} pairs: they train with weight 1; give "
            "data.pairs_type, or auto for a network to say it"
        )
    scenes = [PurePosixPath(clean.names[there]).stem for _, there in places]
    return PairSet(rainy, clean, places, kinds, [pair.weight for pair in used], hold_out(kinds, scenes, share))


def render_demo_pairs(clean: ImageSet, share: float = 0.25) -> PairSet:
    """Pairs of all four types rendered on clean images; the same on every call."""
    names, kinds, rainy, dry = [], [], [], []
    for number, name in enumerate(clean.names):
        for kind in KINDS:
            pair = render_pair(clean[number], kind, number)
            names.append(f"{kind}/{name}")
            kinds.append(_place(kind))
            rainy.append(pair.rainy)
            dry.append(pair.clean)
    sets = FolderSet.from_arrays(names, rainy), FolderSet.from_arrays(names, dry)
    scenes = [PurePosixPath(name).name for name in names]
    return PairSet(
        *sets, [(i, i) for i in range(len(names))], kinds, [1.0] * len(names), hold_out(kinds, scenes, share)
    )


def validation_pairs(pairs: PairSet) -> list[Pair]:
    """Whole held-out pairs, a few of each type, evenly spread."""
    chosen = []
    for kind in sorted({pairs.kinds[i] for i in pairs.held_out}):
        own = [i for i in pairs.held_out if pairs.kinds[i] == kind]
        chosen += [own[i] for i in evenly(len(own), VALIDATED)]
    found = []
    for i in chosen:
        here, there = pairs.places[i]
        found.append(Pair(pairs.rainy.names[here], pairs.rainy[here], pairs.clean[there], pairs.kind_of(i)))
    return found


def _place(kind: RainType | None) -> int:
    return UNKNOWN if kind is None else list(RAIN_TYPES).index(kind)


def _open_side(
    files: Sequence[PairFiles], side: str, folders: Sequence[Path], cache_dir: Path, progress: Progress | None
) -> tuple[FolderSet, list[int | None]]:
    """One side's images, each once, and where each pair's is; None where it cannot be used."""
    right = side == "rainy"
    paths = [HalfFile(getattr(pair, side), right) if pair.halves else getattr(pair, side) for pair in files]
    unique = list(dict.fromkeys(paths))
    names = [_name(path, folders) for path in unique]
    if len(set(names)) < len(names):  # two folders of one name
        names = [str(path) for path in unique]
    place = folders[0] / side  # the cache is named after it and after the files
    images = FolderSet.from_files(place, unique, names, cache_dir, progress)
    there = {name: i for i, name in enumerate(images.names)}
    of = {path: there.get(name) for path, name in zip(unique, names, strict=True)}
    return images, [of[path] for path in paths]


def _name(path: Path | HalfFile, folders: Sequence[Path]) -> str:
    """The name of an image for people: below its folder, which is named where there are several."""
    whole = path.path if isinstance(path, HalfFile) else path
    for folder in folders:
        if whole.is_relative_to(folder):
            name = whole.relative_to(folder).as_posix()
            return f"{folder.name}/{name}" if len(folders) > 1 else name
    return whole.as_posix()
