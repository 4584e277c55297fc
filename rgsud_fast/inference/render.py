"""Pairs of all four types of rain, rendered onto clean photographs."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

from ..config.rain_types import RAIN_TYPES, RainType, types_of
from ..data import list_images, read_image, write_image
from ..data.image_files import to_tensor
from ..data.weather import render_pair
from ..errors import UserError
from ..system.given import check_images, check_seed
from ..system.names import name_bytes, takes_home
from .inputs import ImageWatch, is_folder
from .left_out import LeftOut
from .outputs import flat_names

RAINY, CLEAN = "input", "target"  # the folders of UniRain's own set, below one for each type


@takes_home
def render_pairs(
    clean: str | Path,
    output: str | Path,
    types: Sequence[RainType] = tuple(RAIN_TYPES),
    *,
    seed: int = 0,
    watch: ImageWatch | None = None,
) -> list[tuple[Path, Path]]:
    """Render rain of each type onto clean photographs by day, numpy alone.

    drs: streaks; drd: drops on the pane; nrs, nrd: the photograph made night, with lamps, and streaks that shine in
    their light, or drops. By night the clean image of a pair is night too: both differ by rain alone.

    Args:
        clean: image or folder, searched recursively.
        output: folder; gets TYPE/input/NAME.png and TYPE/target/NAME.png.
        types: which types.
        seed: a photograph's rain is a function of seed, its name and the type, whatever else is in the folder.
        watch: is told the photographs done, those in all, and the last one's name.

    Returns:
        The paths written: (rainy, clean) of each pair.

    Raises:
        UserError: an unknown type, an output in the folder of the photographs, or unusable images.
    """
    types = types_of(",".join(types))
    check_seed(seed)
    root, folder = Path(clean), Path(output)
    check_images(root)
    if is_folder(root) and folder.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{output} lies in {clean}, whose images would be mixed with the pairs: give another output")
    paths = list_images(root) if is_folder(root) else [root]
    names = [path.relative_to(root).as_posix() if is_folder(root) else path.name for path in paths]
    written: list[tuple[Path, Path]] = []
    left_out = LeftOut()
    for i, (path, name, png) in enumerate(zip(paths, names, flat_names(names), strict=True)):
        with left_out.unless(len(paths) == 1, name):
            image = read_image(path)
            for kind in types:
                rendered = render_pair(image, kind, (seed, zlib.crc32(name_bytes(name))))
                pair = folder / kind / RAINY / png, folder / kind / CLEAN / png
                for target, shown in zip(pair, rendered, strict=True):
                    write_image(target, to_tensor(shown))
                written.append(pair)
        if watch is not None:
            watch(i + 1, len(paths), name)
    left_out.tell(f"{len(written)} pairs are written")
    return written
