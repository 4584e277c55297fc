"""Sets of images beyond one disk: WebDataset's tar shards, of which images are read and decoded when asked for."""

from __future__ import annotations

import os
import threading
import zlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from .folder_set import Progress, check_any, digest
from .image_files import decode_image, natural
from .image_set import ImageSet, window
from .listing import count_kinds
from .sampler import Crop
from .shard_files import Shard, expand, index_name
from .shard_index import Index, open_index

THREADS = min(8, os.cpu_count() or 1)  # that decode, beside the one that trains


class _Place(NamedTuple):
    shard: Shard
    begin: int  # byte
    length: int


class ShardSet(ImageSet):
    """Images in tar shards, in the natural order of their names, as a folder of the same files has them.

    Decoded images are kept as they come until `cache_bytes` are taken, and never dropped: under random access dropping
    the oldest would hit less. The others are decoded at each use, in threads for the crops that were announced.
    What is decoded is compared with its digest, so that a shard that changes under a run is noticed.

    Args:
        indices: by shard, what is in it.
        cache_bytes: most memory for decoded images.
    """

    def __init__(self, indices: dict[Shard, Index], cache_bytes: int) -> None:
        found = [(entry, shard) for shard, index in indices.items() for entry in index.entries]
        labels = [entry.name for entry, _ in found] + [name for index in indices.values() for name in index.skipped]
        distinct = len(set(labels)) == len(labels)

        def label(shard: Shard, name: str) -> str:
            return name if distinct else f"{shard.name}/{name}"

        found.sort(key=lambda one: natural(label(one[1], one[0].name)))
        super().__init__(
            [label(shard, entry.name) for entry, shard in found],
            [(entry.height, entry.width) for entry, _ in found],
            [entry.digest for entry, _ in found],
            {label(shard, name): why for shard, index in indices.items() for name, why in index.skipped.items()},
        )
        passed: Counter[str | tuple[str, str]] = Counter()
        for index in indices.values():
            passed.update(index.passed)
        self.passed_over = count_kinds(passed)
        self._places = [_Place(shard, entry.begin, entry.length) for entry, shard in found]
        self._kept: dict[int, np.ndarray] = {}
        self._checked: dict[int, int] = {}  # checksums of encoded images whose pixels have the right digest
        self._room, self._lock = cache_bytes, threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, "decode")
        self._expected: dict[tuple[Crop, int], Future[np.ndarray]] = {}

    @classmethod
    def open(cls, pattern: str, cache_dir: str | Path, cache_gib: float, progress: Progress | None = None) -> ShardSet:
        """Open shards through their indices; what has none is read once.

        Args:
            pattern: a path or http(s) address ending in .tar, with WebDataset's braces for several.
            cache_dir: where the indices are, or go.
            cache_gib: most memory for decoded images, GiB.
            progress: called with (shards opened, shards in all).

        Raises:
            UserError: a pattern or shard that cannot be read, shards without a usable image, a full disk.
        """
        shards, indices = expand(pattern), {}
        with ThreadPoolExecutor(THREADS) as pool:  # a server is asked for each
            names = list(pool.map(index_name, shards))
        for shard, name in zip(shards, names, strict=True):
            try:
                indices[shard] = open_index(shard, name, Path(cache_dir))
            except OSError as error:
                raise UserError(
                    f"{cache_dir}: the index of {shard.name} cannot be written ({error.strerror or error}); free some "
                    "space there, or name another folder with data.cache_dir"
                ) from None
            if progress is not None:
                progress(len(indices), len(shards))
        images = cls(indices, int(cache_gib * 2**30))
        if not images.names and not images.skipped:
            but = f"; passed over: {images.passed_over}" if images.passed_over else ""
            raise UserError(f"{pattern}: no image in these shards{but}")
        check_any(images.names, images.skipped)
        return images

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        index = range(len(self))[index]  # negative indices, and IndexError past the end
        image = self._kept.get(index)
        if image is not None:
            return image
        image = self._decode(index)
        with self._lock:
            if index not in self._kept and image.nbytes <= self._room:
                self._kept[index] = image
                self._room -= image.nbytes
        return image

    def close(self) -> None:
        """Give up what is being decoded ahead, so that the end of a run waits for no server."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def expect(self, crops: Sequence[Crop], side: int) -> None:
        """Begin to decode what these crops will be cut from."""
        for crop in crops:
            if (crop, side) not in self._expected:
                self._expected[crop, side] = self._threads.submit(self._window, crop, side)

    def _parts(self, crops: Sequence[Crop], side: int) -> list[np.ndarray]:
        self.expect(crops, side)
        parts = [self._expected[crop, side].result() for crop in crops]
        for crop in crops:
            self._expected.pop((crop, side), None)
        return parts

    def _window(self, crop: Crop, side: int) -> np.ndarray:
        return window(self[crop.index], crop, side)

    def _decode(self, index: int) -> np.ndarray:
        place, name = self._places[index], self.names[index]
        try:
            content = place.shard.read(place.begin, place.length)
            image = decode_image(content)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        checksum = zlib.crc32(content)  # costs a hundredth of the digest
        if self._checked.get(index) != checksum:
            if (image.shape[:2], digest(image)) != (self.sizes[index], self.digests[index]):
                what = f"{name} is no longer what it was when the run began"
                raise UserError(f"{place.shard.shown}: {what}; start a new run")
            self._checked[index] = checksum
        image.flags.writeable = False
        return image
