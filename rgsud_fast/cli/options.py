"""Options that several commands share; a command's own line in its docstring would come before the text here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from ..errors import UserError
from ..system.device_names import ALLOWED

WEIGHTS = "Run folder, file of weights, or hf:OWNER/REPO[/FILE]."
WeightsPath = Annotated[Path, arg(metavar="WEIGHTS", help=WEIGHTS)]
Folder = Annotated[Path, arg(metavar="DIR")]
MaybeFolder = Annotated[Path | None, arg(metavar="DIR")]
MaybeFile = Annotated[Path | None, arg(metavar="FILE")]
Tile = Annotated[
    int, arg(help="Side in pixels of the tiles of which larger images are made; 0 does every image whole.")
]
Overlap = Annotated[int, arg(help="Pixels that neighbouring tiles share and blend.")]
TileBatch = Annotated[int, arg(help="Tiles that the network gets at once.")]
LocalStatistics = Annotated[
    int | Literal["auto"],
    arg(
        help="Side in pixels of the windows that the network's global means see; auto: 1.5 times the\n"
        "training crop; 0: the whole image or tile."
    ),
]
Mirror = Annotated[bool, arg(help="Mean with the mirrored image's result: twice the time.")]
GreyLayer = Annotated[
    bool, arg(help="Take away only what is grey and bright, as rain by day is; coloured light stays.")
]
Strength = Annotated[float, arg(help="How much of what would be taken away is, 0 to 1.5.")]
Device = Annotated[str, arg(metavar="DEVICE", help=f"{ALLOWED}.")]


def check_tiles(tile: int, overlap: int, tile_batch: int = 1) -> None:
    """Refuse tiles that no image can be cut into, before torch is loaded.

    Raises:
        UserError: one of the three numbers.
    """
    if tile < 0:
        raise UserError(f"--tile {tile} must be at least 0 (0: whole images)")
    if tile_batch < 1:
        raise UserError(f"--tile-batch {tile_batch} must be at least 1")
    if tile < 0 or overlap < 0 or (tile and overlap >= tile):
        raise UserError(f"--overlap {overlap} must be at least 0 and less than --tile {tile} (0: whole images)")
