"""The images a user hands to inference, whatever their form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from ..data import list_images, read_photo, to_batch
from ..data.image_files import SMALLEST
from ..data.pairing import match_names
from ..system.given import check_images

Images: TypeAlias = Tensor | np.ndarray | str | Path | Sequence[Any]
ImageWatch: TypeAlias = Callable[[int, int, str], None]  # images done, images in all, name of the last

_BEYOND = 0.5  # of a float image, by which it may leave [0, 1]


@dataclass(frozen=True)
class Source:
    """One image, or one batch of images, that is read when its turn comes."""

    name: str  # relative to the folder it was found in
    load: Callable[[], Tensor]  # gives float32 [N, 3, H, W]
    path: Path | None = None
    batched: bool = False


def gather(images: Images, smallest: int = SMALLEST) -> list[Source]:
    """List the images a user means; nothing is decoded yet.

    Args:
        images: float tensor [N, 3, H, W] or [3, H, W] in [0, 1]; uint8 array [H, W, 3]; path of an image, or of a
            folder, searched recursively; or a list of any of these.
        smallest: least height and width of a file, in pixels, which is looked at when it is read.

    Raises:
        UserError: a path that does not exist, or a folder without images.
        ValueError: a tensor or array of another shape or type.
    """
    return list(_gather(images, smallest))


def is_single(images: Images) -> bool:
    """Whether the user means one result: a tensor, an array or a file, rather than a list or a folder."""
    return not isinstance(images, (list, tuple)) and not is_folder(images)


def partners(rainy: list[Source], clean: list[Source], called: tuple[str, str] = ("rainy", "clean")) -> list[Source]:
    """The clean version of each rainy image; images in memory have no names to compare, and go by their places.

    `called` are the names of both sets in messages.

    Raises:
        UserError: the first mismatch, by the rule of `match_names`.
    """
    named = all(source.path for source in (*rainy, *clean))

    def names(sources: list[Source]) -> list[str]:
        return [source.name if named else f"image {i}" for i, source in enumerate(sources, start=1)]

    return [clean[place] for place in match_names(names(rainy), names(clean), *called)]


def size_of(image: Tensor) -> str:
    """Width and height for messages."""
    return f"{image.shape[-1]} x {image.shape[-2]}"


def _gather(images: Images, smallest: int) -> Iterator[Source]:
    if isinstance(images, (str, Path)):
        path = Path(images)
        check_images(path)
        if path.is_dir():
            for found in list_images(path):
                yield _file(found, found.relative_to(path).as_posix(), smallest)
        else:
            yield _file(path, path.name, smallest)
    elif isinstance(images, (list, tuple)):
        for i, one in enumerate(images):
            for source in _gather(one, smallest):
                yield source if source.path else Source(f"{i:05d}.png", source.load, None, source.batched)
    else:
        tensor = _as_batch(images)
        yield Source("00000.png", lambda: tensor, None, isinstance(images, Tensor) and images.ndim == 4)


def _file(path: Path, name: str, smallest: int) -> Source:
    return Source(name, lambda: read_photo(path, smallest).on_white(), path)


def _as_batch(image: Any) -> Tensor:
    """Bring a tensor or an array to float32 [N, 3, H, W], or say what it should have been."""
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return to_batch(image)
    if isinstance(image, Tensor) and image.is_floating_point():
        if image.ndim == 3 and image.shape[0] == 3:
            return _in_range(image[None].float())
        if image.ndim == 4 and image.shape[1] == 3:
            return _in_range(image.float())
    got = f"{image.dtype} {list(image.shape)}" if hasattr(image, "dtype") else type(image).__name__
    raise ValueError(f"images must be float [N, 3, H, W] or [3, H, W], uint8 [H, W, 3], or paths, got {got}")


def _in_range(image: Tensor) -> Tensor:
    """Refuse numbers that cannot be meant: a little beyond [0, 1], as resampling leaves it, is taken."""
    if image.numel() and not bool(((image >= -_BEYOND) & (image <= 1 + _BEYOND)).all()):  # NaN is in no range
        raise ValueError(f"images are floats in [0, 1], got {image.min():g} to {image.max():g}; divide 0..255 by 255")
    return image


def is_folder(images: Images) -> bool:
    """Whether the user names a folder of images."""
    return isinstance(images, (str, Path)) and Path(images).is_dir()
