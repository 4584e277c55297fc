"""The commands about labelled pairs: render.

torch is imported by the command that needs it, so that --help and mistakes are answered at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from ..config.rain_types import RAIN_TYPES, types_of
from ..system.given import check_images
from .tables import count_of


def render(
    clean: Annotated[Path, arg(metavar="CLEAN")],
    output: Annotated[Path, arg(metavar="OUT")],
    /,
    types: Annotated[str, arg(metavar="TYPE,...")] = ",".join(RAIN_TYPES),
    seed: int = 0,
) -> None:
    """Render rain of all types onto clean photographs by day: labelled pairs, without a network.

    Args:
        clean: Clean image, or folder, searched recursively.
        output: Folder; gets TYPE/input/NAME.png and TYPE/target/NAME.png. By night the target is night too.
        types: Of drs (streaks by day), drd (drops by day), nrs (streaks by night), nrd (drops by night).
        seed: Seed of everything that is drawn.
    """
    kinds = types_of(types)
    check_images(clean)
    from ..inference.render import render_pairs
    from ..system.progress import counting

    with counting("rendered") as watch:
        written = render_pairs(clean, output, kinds, seed=seed, watch=watch)
    print(f"wrote {count_of(written, 'pair')} to {output}: TYPE/input and TYPE/target of {', '.join(kinds)}")
