"""A set of images decoded once into a memory-mapped file, so that a training step reads crops and decodes nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..files import replacing, write_text
from .images import list_images, read_image
from .sampler import offsets_of

Progress = Callable[[int, int], None]  # images decoded so far, images in all


class ImageSet:
    """A fixed sequence of uint8 [H, W, 3] images.

    Attributes:
        names: one per image: the path inside its folder.
        sizes: (H, W) of each image.
        digests: hash of each image's size and pixels; two images are equal if and only if these are.
        pixels: uint8 [sum of H*W*3], the images one after another.
        offsets: where each image begins in `pixels`, and where the last one ends.
    """

    def __init__(self, pixels: np.ndarray, names: list[str], sizes: list[tuple[int, int]], digests: list[str]):
        """Take the images as `pixels`, uint8 [sum of H*W*3], one after the other; see `from_folder`."""
        self.names, self.sizes, self.digests, self.pixels = names, sizes, digests, pixels
        self.offsets = offsets_of(sizes)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> np.ndarray:
        index = range(len(self))[index]  # negative indices, and IndexError past the end
        return self.pixels[self.offsets[index] : self.offsets[index + 1]].reshape(*self.sizes[index], 3)

    @classmethod
    def from_arrays(cls, names: Sequence[str], images: Iterable[np.ndarray]) -> ImageSet:
        """Hold images that are in memory already, uint8 [H, W, 3] each."""
        images = list(images)
        pixels = np.concatenate([image.reshape(-1) for image in images])
        pixels.flags.writeable = False
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        return cls(pixels, list(names), sizes, [digest(image) for image in images])

    @classmethod
    def from_folder(cls, folder: str | Path, cache_dir: str | Path, progress: Progress | None = None) -> ImageSet:
        """Open a folder's images through their cache, which is built where it is missing or stale.

        The cache is two files named after the folder and after what is in it (names, sizes and modification times of
        its files), so that several runs and folders share one `cache_dir`, and a changed folder has another name.

        Args:
            folder: images, nested folders included.
            cache_dir: where the cache is, or goes: 3 bytes a pixel.
            progress: called after every few images while a cache is built.

        Raises:
            UserError: missing or empty folder, unreadable image, or a cache that cannot be written.
        """
        folder = Path(folder)
        paths = list_images(folder)
        names = [path.relative_to(folder).as_posix() for path in paths]
        stem, old = _cache_name(folder, paths, names)
        base = Path(cache_dir) / stem
        try:
            return cls._open(base)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass  # no cache of this content, or a damaged one
        try:
            _build(base, paths, names, progress)
        except OSError as error:
            raise UserError(f"{cache_dir}: the image cache cannot be written ({error.strerror or error})") from None
        for stale in set(Path(cache_dir).glob(old)) - {_pixels_of(base), _index_of(base)}:
            with contextlib.suppress(OSError):  # a cache that is still in use elsewhere may stay
                stale.unlink()
        return cls._open(base)

    @classmethod
    def _open(cls, base: Path) -> ImageSet:
        index = json.loads(_index_of(base).read_text(encoding="utf-8"))
        pixels = np.memmap(_pixels_of(base), dtype=np.uint8, mode="r")
        sizes = [(height, width) for height, width in index["sizes"]]
        names, digests = index["names"], index["digests"]
        whole = all(type(side) is int and side > 0 for size in sizes for side in size)
        texts = all(isinstance(text, str) for text in (*names, *digests))
        if not whole or not texts or not len(names) == len(digests) == len(sizes):
            raise ValueError("the index of this cache is damaged")
        if pixels.size != sum(height * width * 3 for height, width in sizes):
            raise ValueError("the index and the pixels of this cache do not belong together")
        return cls(pixels, names, sizes, digests)


def digest(image: np.ndarray) -> str:
    """Hash the size and every pixel of a uint8 [H, W, 3] image."""
    return hashlib.blake2b(np.ascontiguousarray(image), digest_size=16, salt=str(image.shape[1]).encode()).hexdigest()


def _build(base: Path, paths: list[Path], names: list[str], progress: Progress | None) -> None:
    sizes, digests = [], []
    with replacing(_pixels_of(base)) as temporary, open(temporary, "wb") as file:
        for image, image_digest in _decoded(paths):
            file.write(image)
            sizes.append(image.shape[:2])
            digests.append(image_digest)
            if progress is not None:
                progress(len(sizes), len(paths))
    # Written last: an index says that its pixels are complete.
    write_text(_index_of(base), json.dumps({"names": names, "sizes": sizes, "digests": digests}))


def _decoded(paths: list[Path]) -> Iterator[tuple[np.ndarray, str]]:
    """Decode in threads (Pillow and hashlib let go of the interpreter), few at a time to bound the memory."""
    workers = min(8, os.cpu_count() or 1)

    def decode(path: Path) -> tuple[np.ndarray, str]:
        image = read_image(path)
        return image, digest(image)

    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(paths), 2 * workers):
            yield from pool.map(decode, paths[start : start + 2 * workers])


def _cache_name(folder: Path, paths: list[Path], names: list[str]) -> tuple[str, str]:
    """The name of the cache of a folder as it is now, and a pattern of the names it had with other content."""
    place = hashlib.blake2b(str(folder.resolve()).encode(), digest_size=4).hexdigest()
    content = hashlib.blake2b(digest_size=8)
    for name, path in zip(names, paths, strict=True):
        stat = path.stat()
        content.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return f"{place}-{content.hexdigest()}", f"{place}-*"


def _pixels_of(base: Path) -> Path:
    return base.with_name(base.name + ".rgb")


def _index_of(base: Path) -> Path:
    return base.with_name(base.name + ".json")
