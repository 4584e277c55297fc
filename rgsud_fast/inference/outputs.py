"""The names of what inference writes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath

from ..data.image_files import SUFFIXES
from ..errors import UserError
from .inputs import Images, Source, is_folder


def targets_of(sources: list[Source], images: Images, output: Path) -> list[list[Path]]:
    """Where the result of each source is written: a list of paths per source, one for each image of a batch.

    One image file goes to the file `output` if that name is an image's; else `output` is a folder that takes the
    names and the nesting of the input, as PNG.

    Raises:
        UserError: `output` cannot be a folder, or an input would be overwritten.
    """
    is_file = isinstance(images, (str, Path)) and not is_folder(images)
    if is_file and output.suffix.lower() in SUFFIXES and not output.is_dir():
        targets = [[output]]
    else:
        if output.exists() and not output.is_dir():
            raise UserError(f"{output} is a file: give a folder for the derained images")
        names = png_names([source.name for source in sources])
        targets = [
            _number(output / name, len(source.load())) if source.batched else [output / name]
            for source, name in zip(sources, names, strict=True)
        ]
        _refuse_ways_out([path for several in targets for path in several], output)
    inputs = {source.path.resolve() for source in sources if source.path}
    for path in (path for several in targets for path in several):
        if path.resolve() in inputs:
            raise UserError(f"{path} is one of the inputs and would be overwritten: give another output")
    return targets


def png_names(names: list[str]) -> list[str]:
    """The same names ending in .png; where two would become one (a.jpg, a.bmp), they keep the old ending as well."""
    wanted = [PurePosixPath(name).with_suffix(".png").as_posix() for name in names]
    often = Counter(wanted)
    return [new if often[new] == 1 else f"{old}.png" for old, new in zip(names, wanted, strict=True)]


def flat_names(names: list[str]) -> list[str]:
    """PNG names for one folder without nesting: sub/a.jpg becomes sub_a.png, numbered where names still meet."""
    flat = png_names([name.replace("/", "_") for name in names])
    often = Counter(flat)
    return [name if often[name] == 1 else f"{i:05d}_{name}" for i, name in enumerate(flat)]


def _refuse_ways_out(targets: list[Path], output: Path) -> None:
    root = output.resolve()
    for path in targets:
        if not path.parent.resolve().is_relative_to(root) or path.name in ("", ".", ".."):
            raise UserError(f"{path} leads out of {output}: rename the input, or remove the link in the output folder")


def _number(path: Path, count: int) -> list[Path]:
    """Batch element i of 00000.png is 00000_i.png; a batch of one keeps the name."""
    return [path] if count == 1 else [path.with_name(f"{path.stem}_{i:03d}.png") for i in range(count)]
