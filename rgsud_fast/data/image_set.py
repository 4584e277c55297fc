"""The interface of a set of images, wherever their pixels are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .sampler import Crop, offsets_of, windows_of

Sizes = list[tuple[int, int]]  # (H, W) of each image


class ImageSet(Sequence[np.ndarray]):
    """A fixed sequence of uint8 [H, W, 3] images.

    Attributes:
        names: one per image: its path inside its folder or shard.
        sizes: (H, W) of each image.
        digests: hash of each image's size and pixels; two images are equal if and only if these are.
        skipped: what was found and cannot be used: reasons by name.
        passed_over: what lies beside the images and is of another kind, counted by ending; or "".
        pixels: uint8 [sum of H*W*3], the images one after another, where one array holds them; None: use `cut`.
        offsets: where each image begins in `pixels`, and where the last one ends; empty without these.
    """

    pixels: np.ndarray | None = None
    offsets: Sequence[int] = ()
    passed_over = ""

    def __init__(self, names: list[str], sizes: Sizes, digests: list[str], skipped: dict[str, str] | None = None):
        self.names, self.sizes, self.digests, self.skipped = names, sizes, digests, skipped or {}

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]  # no slices
        """One image, [H, W, 3]; it cannot be written to."""

    def expect(self, crops: Sequence[Crop], side: int) -> None:
        """Say which crops will be cut soon, so that a set that decodes can begin with them."""

    def close(self) -> None:
        """The run is over: nothing more will be asked for."""

    def cut(self, crops: Sequence[Crop], side: int) -> tuple[Tensor, Tensor]:
        """What `ops.take_crops` needs for these crops: bytes, uint8 [B], and windows into them, int64 [N, 6].

        The bytes hold no more than the windows, one after another, as what leaves an image is continued by reflection
        at borders that are in its window.
        """
        parts = self._parts(crops, side)
        sizes = [(part.shape[0], part.shape[1]) for part in parts]
        inside = [Crop(n, 0, 0, crop.flip) for n, crop in enumerate(crops)]
        pixels = np.concatenate([part.reshape(-1) for part in parts])
        return torch.from_numpy(pixels), windows_of(inside, sizes, offsets_of(sizes))

    def _parts(self, crops: Sequence[Crop], side: int) -> list[np.ndarray]:
        """The pixels of each window, [at most side, at most side, 3]."""
        return [window(self[crop.index], crop, side) for crop in crops]


def window(image: np.ndarray, crop: Crop, side: int) -> np.ndarray:
    """The pixels of one crop, before its flip; fewer than side x side where the image is smaller."""
    return np.ascontiguousarray(image[crop.top : crop.top + side, crop.left : crop.left + side])
