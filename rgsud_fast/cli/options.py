"""Options that several commands share; a command's own line in its docstring would come before the text here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

WeightsPath = Annotated[Path, arg(metavar="WEIGHTS", help="Run folder, file of weights, or hf:OWNER/REPO[/FILE].")]
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
Device = Annotated[str, arg(help="auto, cpu, cuda or cuda:N.")]
