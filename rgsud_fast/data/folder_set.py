"""A set of images decoded once into a memory-mapped file, so that a training step reads crops and decodes nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..errors import UserError
from ..system.files import NO_MAPS, remove_leftovers, replacing, write_text
from ..system.names import name_bytes
from ..system.threads import usable_cpus
from .image_files import decode_image
from .image_set import ImageSet, Sizes
from .listing import look_through
from .pixel_limit import limit_mark, most_pixels
from .sampler import offsets_of

Progress = Callable[[int, int], None]  # images decoded so far, images in all


class FolderSet(ImageSet):
    """Images that lie one after another in one array, in memory or in a mapped file."""

    pixels: np.ndarray

    def __init__(
        self,
        pixels: np.ndarray,
        names: list[str],
        sizes: Sizes,
        digests: list[str],
        skipped: dict[str, str] | None = None,
    ) -> None:
        """Take the images as `pixels`, uint8 [sum of H*W*3], one after the other; see `from_folder`."""
        super().__init__(names, sizes, digests, skipped)
        self.pixels, self.offsets = pixels, offsets_of(sizes)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        index = range(len(self))[index]  # negative indices, and IndexError past the end
        return self.pixels[self.offsets[index] : self.offsets[index + 1]].reshape(*self.sizes[index], 3)

    @classmethod
    def from_arrays(cls, names: Sequence[str], images: Iterable[np.ndarray]) -> FolderSet:
        """Hold images that are in memory already, uint8 [H, W, 3] each."""
        images = list(images)
        pixels = np.concatenate([image.reshape(-1) for image in images])
        pixels.flags.writeable = False
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        return cls(pixels, list(names), sizes, [digest(image) for image in images])

    @classmethod
    def from_folder(cls, folder: str | Path, cache_dir: str | Path, progress: Progress | None = None) -> FolderSet:
        """Open a folder's images through their cache, which is built where it is missing or stale.

        The cache is two files named after the folder and after what is in it (names, sizes, modification times and
        readability of its files), so that several runs and folders share one `cache_dir`, and a changed folder has
        another name. A file that cannot be used (damaged, too small, too large) is left out and noted in `skipped`.

        Args:
            folder: images, nested folders included.
            cache_dir: where the cache is, or goes: 3 bytes a pixel.
            progress: called after every few images while a cache is built.

        Raises:
            UserError: missing or empty folder, one without a usable image, or a cache that cannot be written.
        """
        folder = Path(folder)
        paths, passed_over = look_through(folder, dangling=True)
        names = [path.relative_to(folder).as_posix() for path in paths]
        return cls.from_files(folder, paths, names, cache_dir, progress, passed_over)

    @classmethod
    def from_files(
        cls,
        folder: Path,
        paths: Sequence[Path | HalfFile],
        names: Sequence[str],
        cache_dir: str | Path,
        progress: Progress | None = None,
        passed_over: str = "",
    ) -> FolderSet:
        """Open files, or halves of files, through their cache, as `from_folder` does those of a folder.

        Args:
            folder: what the cache and messages are named after.
            paths: the files, in order.
            names: of the images, one each.
            cache_dir, progress: see `from_folder`.
            passed_over: what lies beside them.
        """
        stem, old = _cache_name(folder, paths, names)
        base = Path(cache_dir) / stem
        for suffix in (_pixels_of(base).suffix, _index_of(base).suffix):
            remove_leftovers(Path(cache_dir) / f"{old}{suffix}")
        try:
            return cls._open(base, passed_over)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass  # no cache of this content, or a damaged one
        try:
            _build(base, paths, names, progress)
        except UserError as error:
            raise UserError(f"{folder}: {error}") from None
        except OSError as error:
            raise UserError(
                f"{cache_dir}: the image cache cannot be written ({error.strerror or error}); free some space there, "
                "or name another folder with data.cache_dir"
            ) from None
        for stale in set(Path(cache_dir).glob(old)) - {_pixels_of(base), _index_of(base)}:
            with contextlib.suppress(OSError):  # a cache that is still in use elsewhere may stay
                stale.unlink()
        try:
            return cls._open(base, passed_over)
        except OSError as error:
            raise UserError(
                f"{cache_dir}: the image cache cannot be read ({error.strerror or error}); name a folder on another "
                "disk with data.cache_dir"
            ) from None

    @classmethod
    def _open(cls, base: Path, passed_over: str) -> FolderSet:
        index = json.loads(_index_of(base).read_text(encoding="utf-8"))
        pixels = _map(_pixels_of(base))
        sizes = [(height, width) for height, width in index["sizes"]]
        names, digests = index["names"], index["digests"]
        whole = all(type(side) is int and side > 0 for size in sizes for side in size)
        texts = all(isinstance(text, str) for text in (*names, *digests))
        if not whole or not texts or not len(names) == len(digests) == len(sizes):
            raise ValueError("the index of this cache is damaged")
        if pixels.size != sum(height * width * 3 for height, width in sizes):
            raise ValueError("the index and the pixels of this cache do not belong together")
        images = cls(pixels, names, sizes, digests, index.get("skipped"))
        images.passed_over = passed_over
        return images


class HalfFile(NamedTuple):
    """One half of a file that holds a rainy and a clean image side by side."""

    path: Path
    right: bool


def digest(image: np.ndarray) -> str:
    """Hash the size and every pixel of a uint8 [H, W, 3] image."""
    pixels = np.ascontiguousarray(image).data
    return hashlib.blake2b(pixels, digest_size=16, salt=str(image.shape[1]).encode()).hexdigest()


def _build(base: Path, paths: Sequence[Path | HalfFile], names: Sequence[str], progress: Progress | None) -> None:
    index: dict[str, Any] = {"names": [], "sizes": [], "digests": [], "skipped": {}}
    with replacing(_pixels_of(base)) as temporary, open(temporary, "wb") as file:
        for done, (name, image) in enumerate(zip(names, decode_all(paths), strict=True), start=1):
            if isinstance(image, str):
                index["skipped"][name] = image
            else:
                file.write(image[0].data)
                index["names"].append(name)
                index["sizes"].append(image[0].shape[:2])
                index["digests"].append(image[1])
            if progress is not None:
                progress(done, len(paths))
        check_any(index["names"], index["skipped"])
    # Written last: an index says that its pixels are complete.
    write_text(_index_of(base), json.dumps(index))


def check_any(names: Sequence[str], skipped: dict[str, str]) -> None:
    """Refuse a set of which nothing can be used.

    Raises:
        UserError: it names the first image and what is wrong with it.
    """
    if not names:
        name, reason = next(iter(skipped.items()))
        raise UserError(f"none of its {len(skipped)} images can be used; the first is {name}: {reason}")


def decode_all(files: Iterable[Path | HalfFile | bytes]) -> Iterator[tuple[np.ndarray, str] | str]:
    """Decode image files, in threads (Pillow and hashlib let go of the interpreter), few at a time to bound the memory.

    Yields:
        In order, each image with its digest; of one that cannot be used the reason.
    """
    workers = min(8, usable_cpus())
    largest = most_pixels(within=1)

    def decode(file: Path | HalfFile | bytes) -> tuple[np.ndarray, str] | str:
        try:
            if isinstance(file, HalfFile):
                image = np.ascontiguousarray(np.split(decode_image(file.path, largest=largest), 2, 1)[file.right])
            else:
                image = decode_image(file, largest=largest)
        except UserError as error:
            return str(error)
        except ValueError:
            return "of odd width, which has no halves"
        return image, digest(image)

    files = iter(files)
    with ThreadPoolExecutor(workers) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such an image is left out
        while some := list(islice(files, 2 * workers)):
            yield from pool.map(decode, some)


def _cache_name(folder: Path, paths: Sequence[Path | HalfFile], names: Sequence[str]) -> tuple[str, str]:
    """The name of the cache of a folder as it is now, and a pattern of the names it had with other content."""
    place = hashlib.blake2b(name_bytes(str(folder.resolve())), digest_size=4).hexdigest()
    content = hashlib.blake2b(limit_mark(), digest_size=8)
    for name, file in zip(names, paths, strict=True):
        path = file.path if isinstance(file, HalfFile) else file
        stat = path.lstat() if path.is_symlink() and not path.exists() else path.stat()
        closed = "" if os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids) else "\0closed"
        content.update(name_bytes(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}{closed}\n"))
    return f"{place}-{content.hexdigest()}", f"{place}-*"


def _map(path: Path) -> np.ndarray:
    """The bytes of a file: mapped, or, on mounts that give no maps, read into memory; they cannot be written to."""
    try:
        return np.memmap(path, dtype=np.uint8, mode="r")
    except OSError as error:
        if error.errno not in NO_MAPS:
            raise
    pixels = np.fromfile(path, np.uint8)
    pixels.flags.writeable = False
    return pixels


def _pixels_of(base: Path) -> Path:
    return base.with_name(base.name + ".rgb")


def _index_of(base: Path) -> Path:
    return base.with_name(base.name + ".json")
