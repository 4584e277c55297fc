"""Uploaded photographs: what is refused before anything decodes it, in words for whoever uploaded it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

from ..data import read_image
from ..data.image_files import FORMATS, SMALLEST
from ..data.pixel_limit import most_pixels
from ..errors import UserError

MOST_BYTES = 64 * 2**20
MOST_PIXELS = 40_000_000  # cameras of 36 megapixels; in float32 480 MB, and about thrice that while tiles are blended


class Refused(Exception):
    """A photograph that is not derained: the message says why and what to do, and names no path."""


def read_photo(path: Path) -> np.ndarray:
    """Decode an upload after its size in bytes, its format and its size in pixels were looked at.

    Returns:
        uint8 [H, W, 3].

    Raises:
        Refused: it is empty, too large, too small, damaged, or no image of these formats.
    """
    size = path.stat().st_size
    if size == 0:
        raise Refused("This file is empty. Choose another one.")
    if size > MOST_BYTES:
        raise Refused(f"This file has {size / 2**20:.0f} MiB; at most {MOST_BYTES // 2**20} MiB are taken.")
    width, height = _size(path)
    if width * height > min(MOST_PIXELS, most_pixels()):
        raise _too_many(f"{width:,} x {height:,} pixels")
    if min(width, height) < SMALLEST:
        raise Refused(f"This image has {width} x {height} pixels; at least {SMALLEST} on each side are needed.")
    try:
        return read_image(path)
    except UserError:
        raise Refused("This image is damaged and cannot be decoded. Save or download it again.") from None


def result_name(upload: str) -> str:
    """The file name of a result: of the upload's name only letters, digits, dashes and dots inside are kept."""
    stem = re.sub(r"[^\w.-]+", "_", Path(upload).stem, flags=re.ASCII).strip("._")[:80]
    return f"{stem or 'photograph'}-derained.png"


def _size(path: Path) -> tuple[int, int]:
    """Width and height by the file's header; nothing is decoded."""
    try:
        with Image.open(path, formats=FORMATS) as opened:
            return opened.size
    except Image.DecompressionBombError:
        raise _too_many("far too many pixels") from None
    except Exception:  # a damaged header makes its codec raise nearly anything
        raise Refused(f"This is no image that can be read here. Choose a {_either(FORMATS)} file.") from None


def _too_many(what: str) -> Refused:
    most = min(MOST_PIXELS, most_pixels()) / 1e6
    return Refused(f"This image has {what}; at most {most:g} megapixels are taken. Make it smaller.")


def _either(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
