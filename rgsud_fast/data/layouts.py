"""The layouts of public sets of labelled pairs: from a folder to pairs of files and their type of rain."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..config.rain_types import RAIN_TYPES, RainType
from ..errors import UserError, either
from ..system.names import takes_home
from .image_files import decoding, open_image
from .listing import list_images
from .manifest import MANIFEST, read_manifest
from .pairing import match_names
from .sampler import evenly


class PairFiles(NamedTuple):
    """One labelled pair on disk."""

    rainy: Path
    clean: Path
    kind: RainType | None  # None: nothing tells it
    name: str  # of the rainy image, below the root
    halves: bool = False  # one file holds both: its left half is clean
    weight: float = 1.0  # of the pair in training


class Found(NamedTuple):
    """A pair by names below the root."""

    rainy: str
    clean: str
    kind: RainType | None
    halves: bool = False


_RAINY = ("input", "rain", "rainy", "lq", "data", "rainy_image", "rainy_images", "rain_img", "drop")
_CLEAN = ("target", "norain", "gt", "clean", "ground_truth", "groundtruth", "norain_img", "clear")
_MARKS = re.compile(r"(?<![a-z])(norain|rain|rainy|clean|gt|rd|pie|input|target)(?![a-z])", re.IGNORECASE)
_STREAKS = ("rain100", "rain200", "rain800", "rain13k", "rain1400", "rain12", "ddn", "spa-data", "gt-rain")
_DROPS = re.compile(r"raindrop|(?<![a-z])drops?(?![a-z])")
_WIDE = 1.6  # width over height beyond which one file may hold two images
_ALIKE = 0.3  # median likeness of the halves of pairs; in wide photographs -0.06, with the heaviest rain 0.48
_LOOKED_AT = 20  # files of a folder whose sizes tell that


def type_of(name: str) -> RainType | None:
    """The type of rain that the words of an image's path tell; None where they tell none.

    A folder may be named after a type (`drs`). Else drops and streaks are told by words (`raindrop`, `streak`, the
    names of sets of streaks among its folders), and night by its own; rain of a night that no word calls drops is
    streaks.
    """
    lower = name.lower()
    for part in reversed(PurePosixPath(lower).parts):
        if part in RAIN_TYPES:
            return part
    night = "night" in lower
    if _DROPS.search(lower):
        return "nrd" if night else "drd"
    if night and "rain" in lower:
        return "nrs"
    folders = PurePosixPath(lower).parent.as_posix()  # rain100.png may be the hundredth
    return "drs" if "streak" in lower or any(word in folders for word in _STREAKS) else None


@takes_home
def read_layout(root: str | Path, layout: str | None = None, kind: RainType | None = None) -> list[PairFiles]:
    """The labelled pairs below a folder: what `distil` kept, or by the layout of one of the public sets.

    Args:
        root: folder of one set, or of several in the layout of rainy and clean folders.
        layout: one of LAYOUTS; None: the first that fits.
        kind: type of rain of all, in place of what names tell.

    Returns:
        Pairs in the order of their rainy names.

    Raises:
        UserError: no layout fits, or that one does not; pairs that do not match.
    """
    folder = Path(root)
    if layout is not None and layout not in LAYOUTS:
        raise UserError(f"no layout {layout!r}: give {either(list(LAYOUTS))}")
    if layout is None and (folder / MANIFEST).is_file():
        return [
            PairFiles(one.rainy, one.clean, kind or one.kind, one.name, one.halves, one.weight)
            for one in read_manifest(folder)
        ]
    names = [path.relative_to(folder).as_posix() for path in list_images(folder)]
    for name in (layout,) if layout is not None else LAYOUTS:
        if found := LAYOUTS[name].read(folder, names):
            return [_located(folder, pair, kind) for pair in found]
    folders = sorted({str(PurePosixPath(name).parent) for name in names})
    shown = ", ".join(folders[:4]) + (f" and {len(folders) - 4} more" if len(folders) > 4 else "")
    known = "; ".join(f"{name}: {one.told}" for name, one in LAYOUTS.items())
    asked = f"is not in the layout {layout}" if layout is not None else "is in no layout that is known"
    raise UserError(f"{root} {asked}: it has {len(names)} images in {shown}, such as {names[0]}. Layouts: {known}")


def _located(folder: Path, pair: Found, kind: RainType | None) -> PairFiles:
    told = kind or pair.kind or type_of(f"{folder.name or folder.absolute().name}/{pair.rainy}")
    return PairFiles(folder / pair.rainy, folder / pair.clean, told, pair.rainy, pair.halves)


def _key(name: str) -> str:
    """What two names of a pair share: the stem without the words that tell rainy from clean, and Rain200's x2."""
    stem = PurePosixPath(name).stem.lower()
    stem = re.sub(r"(?<=\d)x\d$", "", stem)
    stem = re.sub(r"[^0-9a-z]+", "_", _MARKS.sub("", stem.replace("_", " "))).strip("_")
    return stem or PurePosixPath(name).stem.lower()


def _by_folder(names: Sequence[str]) -> dict[str, list[str]]:
    """Names by the folder they are in, in order."""
    folders: dict[str, list[str]] = defaultdict(list)
    for name in names:
        folders[PurePosixPath(name).parent.as_posix()].append(name)
    return folders


def _match(rainy: Sequence[str], clean: Sequence[str], where: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """Pair names of two folders: by key, else as `match_names` does.

    Raises:
        UserError: the first mismatch.
    """
    by_key = {_key(name): name for name in clean}
    if len(by_key) == len(clean) and all(_key(name) in by_key for name in rainy):
        yield from ((name, by_key[_key(name)]) for name in rainy)
        return
    wet, dry = ([f"{_key(name)}.png" for name in names] for names in (rainy, clean))
    yield from ((rainy[i], clean[place]) for i, place in enumerate(match_names(wet, dry, *where)))


def _folders(root: Path, names: Sequence[str]) -> list[Found]:
    """Sibling folders of rainy and clean images, anywhere below the root, the rainy one nested or not."""
    sides: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in names:
        parts = PurePosixPath(name).parts[:-1]
        for depth in range(len(parts) - 1, -1, -1):
            if parts[depth].lower() in (*_RAINY, *_CLEAN):
                sides["/".join(parts[:depth])][parts[depth]].append(name)
                break
    found = []
    for parent, children in sides.items():
        rainy = [child for child in children if child.lower() in _RAINY]
        clean = [child for child in children if child.lower() in _CLEAN]
        if not rainy or not clean:
            continue
        if len(rainy) + len(clean) > 2:
            among = ", ".join((*rainy, *clean))
            raise UserError(f"{root / parent} holds {among}: leave one folder of rainy and one of clean images there")
        where = (f"{parent}/{rainy[0]}".lstrip("/"), f"{parent}/{clean[0]}".lstrip("/"))
        raindrop = rainy[0].lower() == "data" and clean[0].lower() == "gt" and _is_raindrop(children[rainy[0]])
        own: RainType | None = "drd" if raindrop else None
        found += [Found(*pair, own) for pair in _match(children[rainy[0]], children[clean[0]], where)]
    return found


def _is_raindrop(names: Sequence[str]) -> bool:
    return all(re.fullmatch(r"\d+_rain", PurePosixPath(name).stem) for name in names)


def _prefixes(root: Path, names: Sequence[str]) -> list[Found]:
    """Rain100L, Rain100H: `rain-N.png` and `norain-N.png` in one folder."""
    found = []
    for some in _by_folder(names).values():
        clean = {m[1]: name for name in some if (m := re.fullmatch(r"norain-?(\d+)", PurePosixPath(name).stem))}
        rainy = {m[1]: name for name in some if (m := re.fullmatch(r"rain-?(\d+)", PurePosixPath(name).stem))}
        if clean and (lonely := [name for number, name in rainy.items() if number not in clean]):
            raise UserError(f"{root / lonely[0]} has no clean version norain-N beside it: add it, or remove the image")
        found += [Found(name, clean[number], "drs") for number, name in rainy.items() if clean]
    return found


def _numbered(root: Path, names: Sequence[str]) -> list[Found]:
    """Rain1400: `N_k.jpg`, k of 1 to 14, and `N.jpg`, in one folder."""
    found = []
    for some in _by_folder(names).values():
        clean = {PurePosixPath(name).stem: name for name in some if PurePosixPath(name).stem.isdigit()}
        for name in some:
            match = re.fullmatch(r"(\d+)_(\d+)", PurePosixPath(name).stem)
            if match and match[1] in clean and 1 <= int(match[2]) <= 14:
                found.append(Found(name, clean[match[1]], "drs"))
    return found


_RAINDS: dict[str, tuple[str, RainType]] = {
    "rainstreak": ("rain", "drs"),
    "raindrop": ("rd", "drd"),
    "rainstreak_raindrop": ("rd-rain", "drd"),
}


def _rainds(root: Path, names: Sequence[str]) -> list[Found]:
    """RainDS: folders for streaks, drops and both, and one of clean versions."""
    folders, found = _by_folder(names), []
    for folder, some in folders.items():
        place = PurePosixPath(folder)
        truth = folders.get((place.parent / "gt").as_posix())
        if place.name not in _RAINDS or truth is None:
            continue
        clean = {_number(name): name for name in truth}
        kind = _RAINDS[place.name][1]
        found += [Found(name, clean[_number(name)], kind) for name in some if _number(name) in clean]
    return found


def _number(name: str) -> tuple[bool, str]:
    stem = PurePosixPath(name).stem
    return "pie" in stem, stem.rpartition("-")[2]


def _clarity(root: Path, names: Sequence[str]) -> list[Found]:
    """RaindropClarity: `DayRainDrop_Train/Drop/SCENE/N.png` against `Clear/SCENE/N.png`."""
    there, found = set(names), []
    for name in names:
        parts = list(PurePosixPath(name).parts)
        if len(parts) < 3 or "Drop" not in parts[:-1]:
            continue
        at = parts.index("Drop")
        clear = "/".join([*parts[:at], "Clear", *parts[at + 1 :]])
        if clear in there:
            night = "night" in "/".join([root.name, *parts[:at]]).lower()
            found.append(Found(name, clear, "nrd" if night else "drd"))
    return found


def _gt_rain(root: Path, names: Sequence[str]) -> list[Found]:
    """GT-RAIN: in each scene frames `*-R-NNN.png` against one `*-C-000.png`."""
    found = []
    for some in _by_folder(names).values():
        clean = [name for name in some if re.search(r"-C-\d+$", PurePosixPath(name).stem)]
        if clean:
            found += [Found(name, clean[0], "drs") for name in some if re.search(r"-R-\d+$", PurePosixPath(name).stem)]
    return found


def _spa(root: Path, names: Sequence[str]) -> list[Found]:
    """SPA-Data: `real_world.txt` names a rainy and a clean file a line, below the root."""
    lines = root / "real_world.txt"
    if not lines.is_file():
        return []
    there, found = set(names), []
    for line in lines.read_text(encoding="utf-8", errors="replace").splitlines():
        words = [word.lstrip("./") for word in line.split()]
        if len(words) == 2 and set(words) <= there:
            found.append(Found(words[0], words[1], "drs"))
    return found


def _halves(root: Path, names: Sequence[str]) -> list[Found]:
    """Rain800: one file holds both, the clean image on the left; a wide photograph's halves show two scenes."""
    alike = []
    for name in (names[i] for i in evenly(len(names), _LOOKED_AT)):
        with decoding(root / name), open_image(root / name) as image:
            if image.width % 2 or image.width <= _WIDE * image.height:
                return []
            alike.append(_likeness(image))
    return [Found(name, name, "drs", True) for name in names] if np.median(alike) > _ALIKE else []


def _likeness(image: Image.Image) -> float:
    """How alike both halves are, whatever a row or a column has in common, such as the sky; 1 where nothing is seen."""
    small = np.asarray(image.convert("L").resize((64, 32), Image.Resampling.BOX), np.float64)
    left, right = (half - half.mean(0) - half.mean(1, keepdims=True) + half.mean() for half in np.hsplit(small, 2))
    power = float(np.square(left).sum() * np.square(right).sum()) ** 0.5
    return float((left * right).sum()) / power if power > 1 else 1.0


class Layout(NamedTuple):
    """How one layout is read, and told."""

    read: Callable[[Path, Sequence[str]], list[Found]]
    told: str


LAYOUTS: dict[str, Layout] = {  # the first that fits is taken: what is told by more comes first
    "spa": Layout(_spa, "real_world.txt with lines RAINY CLEAN"),
    "rainds": Layout(_rainds, "{rainstreak,raindrop,rainstreak_raindrop,gt}/"),
    "clarity": Layout(_clarity, "{Day,Night}RainDrop_Train/{Drop,Clear}/SCENE/N.png"),
    "gt-rain": Layout(_gt_rain, "SCENE/*-R-N.png with SCENE/*-C-000.png"),
    "folders": Layout(_folders, "TYPE/{input,target}, {rain,norain}, {rainy,gt}, {data,gt}, {lq,gt}, {rainy,clean}"),
    "prefixes": Layout(_prefixes, "rain-N.png with norain-N.png"),
    "numbered": Layout(_numbered, "N_k.jpg with N.jpg"),
    "halves": Layout(_halves, "one file, its left half clean"),
}
