"""The sizes of tiles, of which large images are made."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from ..errors import UserError

# Pixels; the command line reads them, and its --help does not wait for torch. A NAFNet of the paper's depth sees 340
# pixels each way, but where its means are held what is 32 pixels away changes 8-bit levels by 0.2 at most, at 48 pixels
# by 0.02 (99.9 % of pixels), and an overlap of 56 leaves seams within half a level (bench/studies/receptive_field.py).
TILE, OVERLAP = 1024, 64


@dataclass
class Tiling:
    """How images are cut into tiles. Where memory does not hold a call of the network, it shrinks and stays so.

    Attributes:
        tile: side of a tile in pixels; 0 does every image whole, and is never shrunk.
        overlap: pixels shared by neighbouring tiles, less than the tile.
        batch: tiles of one call of the network.
    """

    tile: int = TILE
    overlap: int = OVERLAP
    batch: int = 1

    def __post_init__(self) -> None:
        if self.tile < 0 or self.overlap < 0 or (self.tile and self.overlap >= self.tile):
            got = f"tile {self.tile} and overlap {self.overlap}"
            raise ValueError(f"overlap must be at least 0 and less than the tile, got {got}")
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")

    def shrink(self, longest: int) -> None:
        """Ask for half as much: of the batch, then of the tile, of an image whose longer side is `longest` pixels.

        Raises:
            UserError: tiles cannot be smaller.
        """
        if not self.tile:
            raise UserError("memory does not hold a whole image: give --tile, the side of tiles in pixels")
        tile = min(self.tile, longest)
        if self.batch > 1:
            self.batch //= 2
        elif tile // 2 > self.overlap:
            self.tile = tile // 2
        else:
            raise UserError(
                f"memory does not hold a tile of {tile} pixels: give a smaller --overlap, or another device"
            )
        asked = f"{self.batch} tile{'s' * (self.batch > 1)} of {self.tile} pixels"
        warnings.warn(f"memory ran out; going on with {asked} at a time", stacklevel=2)
