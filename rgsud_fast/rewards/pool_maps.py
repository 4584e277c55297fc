"""Where the best stored reward of each image is spoiled: a byte per 8 x 8 pixels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.sampler import Crop
from ..ops import take_crops

CELL = 8  # pixels


class PoolMaps:
    """The maps of a pool; 0 where none was given, which is clean.

    Args:
        sizes: height and width of every image, in pixels.
        device: where crops are needed.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], device: torch.device | str = "cpu") -> None:
        self.sizes = list(sizes)
        self._grids = [(-(-height // CELL), -(-width // CELL)) for height, width in sizes]
        self._offsets = list(accumulate((high * wide for high, wide in self._grids), initial=0))
        self.bytes = torch.zeros(self._offsets[-1], dtype=torch.uint8, device=device)

    def put(self, index: int, spoiled: Tensor, where: Tensor | bool = True) -> None:
        """Keep the map of an image, [1, 1, H, W] in [0, 1], if `where`, a bool or a scalar of the device, says so."""
        height, width = self.sizes[index]
        high, wide = self._grids[index]
        whole = F.pad(spoiled.float(), (0, wide * CELL - width, 0, high * CELL - height), mode="replicate")
        new = (255 * F.avg_pool2d(whole, CELL)).round().to(torch.uint8).flatten().to(self.bytes.device)
        old = self.of(index)
        chosen = torch.as_tensor(where, device=old.device).reshape(())
        self.bytes[self._offsets[index] : self._offsets[index + 1]] = torch.where(chosen, new, old)

    def of(self, index: int) -> Tensor:
        """The bytes of an image's map, flat."""
        return self.bytes[self._offsets[index] : self._offsets[index + 1]]

    def take(self, crops: Sequence[Crop], side: int) -> Tensor:
        """Maps of crops, by the windows and flips of `RewardPool.take`, [N, 1, side, side] in [0, 1]."""
        taken = [self._cut(crop, side) for crop in crops]
        return torch.cat(taken) if taken else self.bytes.new_zeros((0, 1, side, side), dtype=torch.float32)

    def _cut(self, crop: Crop, side: int) -> Tensor:
        """By the op that cuts rewards, so that windows and flips are the same, [1, 1, side, side]."""
        (height, width), grid = self.sizes[crop.index], self._grids[crop.index]
        cells = self.of(crop.index).reshape(1, 1, *grid).float()
        whole = F.interpolate(cells, size=(CELL * grid[0], CELL * grid[1]), mode="bilinear", align_corners=False)
        pixels = whole[0, 0, :height, :width, None].round().to(torch.uint8).expand(-1, -1, 3).reshape(-1)
        window = torch.tensor([(0, height, width, crop.top, crop.left, int(crop.flip))], device=pixels.device)
        return take_crops(pixels, window, side)[0][:, :1]

    def spread(self, indices: Sequence[int], values: Tensor) -> None:
        """Put the bytes of several images' maps, which follow one another, where they belong."""
        at = 0
        for index in indices:
            mine = self.of(index)
            mine.copy_(values[at : at + len(mine)])
            at += len(mine)

    def load(self, values: Tensor | None) -> None:
        """Restore `bytes`; None, of a checkpoint without maps, is clean.

        Raises:
            ValueError: they are of images of other sizes.
        """
        if values is not None and values.shape != self.bytes.shape:
            raise ValueError(f"the maps are {list(values.shape)} bytes, and these images have {list(self.bytes.shape)}")
        self.bytes.copy_(torch.zeros_like(self.bytes) if values is None else values)
