"""What a folder holds: its images in order, and what was passed over, counted by ending."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from ..system.names import takes_home
from .image_files import RAW, READABLE, hint_of, natural

# Folders that cameras' cards, network storage and archivers add; names are compared without case.
_NOBODYS = frozenset(
    {"@eadir", "#recycle", "#snapshot", "@recycle", "@tmp", "__macosx", "$recycle.bin", "lost+found"}
    | {"system volume information", "thumbs.db"}
)
_PICTURES = ".avif .heic .heif .hif .gif .jxl .jp2 .j2k .psd .tga .ppm .pgm .pnm .exr .hdr .mpo"
_VIDEOS = ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .mts .m2ts .3gp .wmv .flv"
_TOLD = frozenset(f"{_PICTURES} {_VIDEOS}".split()) | RAW
_CLOSED = ("folder that cannot be entered", "folders that cannot be entered")
_NOWHERE = ("link that leads nowhere", "links that lead nowhere")


class Listing(NamedTuple):
    """What was found below a folder."""

    images: list[Path]  # in natural order
    passed_over: str  # "4 .heic, 2 .mov, 1 folder that cannot be entered", or ""


@takes_home
def look_through(folder: str | Path, dangling: bool = False) -> Listing:
    """Find every image under a folder, nested and linked folders included, each real folder once.

    Passed over without a word are names that begin with a dot, folders that storage and archivers add (@eaDir,
    #recycle, __MACOSX ...), and files of any ending that is no photograph's and no video's, such as texts. Counted
    are photographs and videos of kinds that are not read here, links that lead nowhere, and closed folders.

    Args:
        folder: where to look.
        dangling: list links to nothing as well, so that they can be told one by one.

    Returns:
        The images in natural order: `2.png` before `10.png`, so that `1x2.png`, `10x2.png` pair with `1.png`, `10.png`.

    Raises:
        UserError: the folder does not exist, cannot be entered, or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "no folder" if folder.exists() else "no such folder"
        raise UserError(f"{folder}: {what}; give the path of a folder of images")
    found: list[Path] = []
    passed: Counter[str | tuple[str, str]] = Counter()
    for path, is_file in _walk(folder, passed):
        suffix = path.suffix.lower()
        if suffix in READABLE and (is_file or dangling):
            found.append(path)
        elif suffix in READABLE:
            passed[_NOWHERE] += 1
        elif is_told(suffix):
            passed[suffix] += 1
    told = count_kinds(passed)
    if not found:
        kinds = ", ".join(sorted(suffix[1:] for suffix in READABLE))
        but = f"; passed over: {told}" if told else ""
        raise UserError(f"{folder}: no image in this folder or below it; it needs files of these kinds: {kinds}{but}")
    return Listing(sorted(found, key=lambda path: natural(path.relative_to(folder).as_posix())), told)


@takes_home
def list_images(folder: str | Path) -> list[Path]:
    """The images under a folder as `look_through` finds them; a warning of one line counts what was passed over.

    Raises:
        UserError: the folder does not exist, cannot be entered, or holds no image.
    """
    images, passed_over = look_through(folder)
    if passed_over:
        warnings.warn(f"{folder}: passed over: {passed_over}", stacklevel=2)
    return images


def _walk(root: Path, passed: Counter[str | tuple[str, str]]) -> Iterator[tuple[Path, bool]]:
    """Every file below a folder, and whether it is there (a link may lead nowhere).

    Linked folders come last, so that a folder is listed under its own name where it has one here. A link to a folder
    around `root` is not followed.
    """
    above = {_identity(folder) for folder in root.resolve().parents}
    seen: set[tuple[int, int]] = set()
    real: list[Path] = [root]
    linked: list[Path] = []
    while real or linked:
        folder = real.pop() if real else linked.pop(0)
        try:
            key = _identity(folder)
            if key in seen or key in above:
                continue
            seen.add(key)
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if folder == root:
                raise UserError(f"{folder}: cannot be entered ({error.strerror}); change its permissions") from None
            passed[_CLOSED] += 1
            continue
        for entry in entries:
            if is_nobodys(entry.name):
                continue
            try:
                is_folder, is_file = entry.is_dir(), entry.is_file()
            except OSError:  # a link in a circle, or into a closed folder
                is_folder = is_file = False
            if is_folder:
                (linked if entry.is_symlink() else real).append(Path(entry.path))
            elif is_file or entry.is_symlink():
                yield Path(entry.path), is_file


def _identity(folder: Path) -> tuple[int, int]:
    stat = folder.stat()
    return stat.st_dev, stat.st_ino


def is_nobodys(name: str) -> bool:
    """Whether a file or folder of this name is passed over without a word."""
    return name.startswith(".") or name.lower() in _NOBODYS


def is_told(suffix: str) -> bool:
    """Whether files of this lower-case ending are photographs or videos, to be counted where they are not read."""
    return suffix in _TOLD


def count_kinds(passed: Counter[str | tuple[str, str]]) -> str:
    """Most frequent endings first, then what is no file; and what would make them readable."""
    endings = sorted((kind for kind in passed if isinstance(kind, str)), key=lambda kind: (-passed[kind], kind))
    parts = [f"{passed[kind]} {kind}" for kind in endings]
    parts += [f"{passed[names]} {names[passed[names] > 1]}" for names in (_NOWHERE, _CLOSED) if passed[names]]
    hints = dict.fromkeys(hint for kind in endings if (hint := hint_of(kind)) and kind not in RAW and kind != ".gif")
    return ", ".join(parts) + "".join(f" ({hint})" for hint in hints)
