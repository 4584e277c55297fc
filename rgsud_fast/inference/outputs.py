"""The names of what inference writes."""

from __future__ import annotations

import unicodedata
import warnings
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from typing import cast

from ..data.image_files import SUFFIXES, suffix_of
from ..errors import UserError
from .inputs import Images, Source, is_folder

MARK = ".rgsud_fast"  # in a folder of results that lies in the folder of their inputs


def targets_of(sources: list[Source], images: Images, output: Path, ending: str = ".png") -> list[list[Path]]:
    """Where the result of each source is written: a list of paths per source, one for each image of a batch.

    One image file goes to the file `output` if that name is an image's; else `output` is a folder that takes the
    names and the nesting of the input, with this ending.

    Raises:
        UserError: `output` cannot be a folder, an input would be overwritten, or the ending is none of a format's.
    """
    suffix_of(f"a{ending}")
    if PurePosixPath(f"a{ending}").name != f"a{ending}" or "\\" in ending:
        raise UserError(f"suffix {ending.rpartition('.')[0]!r}: what comes after a name cannot lead to a folder")
    is_file = isinstance(images, (str, Path)) and not is_folder(images)
    if is_file and output.suffix.lower() in SUFFIXES and not output.is_dir():
        targets = [[output]]
    else:
        if output.exists() and not output.is_dir():
            raise UserError(f"{output} is a file: give a folder for the derained images")
        if is_folder(images) and output.resolve() == Path(cast(str, images)).resolve():
            raise UserError(
                f"{output} is the folder of the photographs, which the results would be mixed with: give another "
                f"output, such as {output / 'derained'}"
            )
        if is_file and output.suffix[1:].isalnum() and not output.exists():
            kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
            raise UserError(f"{output}: cannot write this format; end the name in one of {kinds}, or name a folder")
        names = [name.removesuffix(".png") + ending for name in png_names([source.name for source in sources])]
        targets = [
            _number(output / name, len(source.load())) if source.batched else [output / name]
            for source, name in zip(sources, names, strict=True)
        ]
        flat = [path for several in targets for path in several]
        _refuse_ways_out(flat, output)
        _refuse_meeting(flat)
    inputs = {source.path.resolve() for source in sources if source.path}
    for path in (path for several in targets for path in several):
        if path.resolve() in inputs:
            raise UserError(f"{path} is one of the inputs and would be overwritten: give another output")
    return targets


def without_existing(sources: list[Source], targets: list[list[Path]]) -> tuple[list[Source], list[list[Path]]]:
    """The sources some of whose results are missing, and where these go."""
    left = [i for i, paths in enumerate(targets) if not all(path.is_file() for path in paths)]
    if len(left) < len(sources):
        warnings.warn(f"{len(sources) - len(left)} results are there already and are skipped", stacklevel=3)
    return [sources[i] for i in left], [targets[i] for i in left]


def without_outputs(sources: list[Source], images: Images, output: Path) -> list[Source]:
    """The images of a folder but for those in an output folder inside it, where an earlier run wrote them.

    Such a folder is marked when it is new. One that held images of the user's before has no mark: these are inputs.
    """
    root = output.resolve()
    if not isinstance(images, (str, Path)) or not root.is_relative_to(Path(images).resolve()) or not is_folder(images):
        return sources
    kept = [source for source in sources if not source.path or root not in source.path.resolve().parents]
    if len(kept) == len(sources):
        output.mkdir(parents=True, exist_ok=True)
        (output / MARK).touch()
    if not (output / MARK).is_file():
        return sources
    if not kept:
        raise UserError(f"{images}: every image lies in {output}, where results go: give another output")
    return kept


def png_names(names: list[str]) -> list[str]:
    """The same names ending in .png, all different, also where neither case nor Unicode's normal forms count.

    Where two would become one (a.jpg, a.bmp), they keep the old ending as well; equal names (of several folders) are
    numbered: a.png, a_2.png.
    """
    paths = [PurePosixPath(name) for name in names]
    wanted = [path.with_suffix(".png").as_posix() for path in paths]
    longer = [f"{name}.png" for name in names]
    folders = {_as_met(parent.as_posix()) for path in paths for parent in path.parents}
    while True:
        meeting: defaultdict[str, set[str]] = defaultdict(set)
        for old, new in zip(names, wanted, strict=True):
            meeting[_as_met(new)].add(_as_met(old))
        crowded = {new for new, olds in meeting.items() if len(olds) > 1 or new in folders}
        kept = [long if _as_met(new) in crowded else new for new, long in zip(wanted, longer, strict=True)]
        if kept == wanted:
            return _numbered(wanted, folders)
        wanted = kept


def flat_names(names: list[str]) -> list[str]:
    """PNG names for one folder without nesting, all different: sub/a.jpg becomes sub_a.png."""
    return png_names([name.replace("/", "_") for name in names])


def _as_met(name: str) -> str:
    """What some file systems make of a name: neither case nor the normal form of its letters counts."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _numbered(names: list[str], taken: set[str]) -> list[str]:
    """The same names, the second of several equal ones with _2 before its ending, and so on."""
    taken = taken | {_as_met(name) for name in names}
    seen: Counter[str] = Counter()
    different = []
    for name in names:
        met = _as_met(name)
        seen[met] += 1
        new = name
        if seen[met] > 1:
            while _as_met(new) in taken:
                new = f"{name.removesuffix('.png')}_{seen[met]}.png"
                seen[met] += _as_met(new) in taken
            taken.add(_as_met(new))
        different.append(new)
    return different


def _refuse_meeting(targets: list[Path]) -> None:
    met: dict[str, Path] = {}
    for path in targets:
        other = met.setdefault(_as_met(path.as_posix()), path)
        if other is not path:
            raise UserError(f"two images would be written to {path}: rename one, or write them to two folders")


def _refuse_ways_out(targets: list[Path], output: Path) -> None:
    root = output.resolve()
    for path in targets:
        if not path.parent.resolve().is_relative_to(root) or path.name in ("", ".", ".."):
            raise UserError(f"{path} leads out of {output}: rename the input, or remove the link in the output folder")


def _number(path: Path, count: int) -> list[Path]:
    """Batch element i of 00000.png is 00000_i.png; a batch of one keeps the name."""
    return [path] if count == 1 else [path.with_name(f"{path.stem}_{i:03d}{path.suffix}") for i in range(count)]
