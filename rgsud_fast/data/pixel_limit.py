"""How many pixels an image may have: a limit against bombs, looked at before decoding, that can be raised."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterator

from PIL import Image

from ..errors import UserError

VARIABLE = "RGSUD_MAX_MEGAPIXELS"

_LOCK = threading.RLock()  # who holds it may change Pillow's limit


def given_limit() -> float | None:
    """The pixels that RGSUD_MAX_MEGAPIXELS allows, or None where it is not set.

    Raises:
        UserError: it is no positive number.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return None
    try:
        megapixels = float(text)
    except ValueError:
        megapixels = math.nan
    if not megapixels > 0:
        raise UserError(f"{VARIABLE} must be a positive number of megapixels, got {text!r}; 500 allows most panoramas")
    return megapixels * 1e6


def most_pixels(within: float = 2) -> float:
    """The most pixels that are decoded: what RGSUD_MAX_MEGAPIXELS says, else by Pillow's limit.

    Args:
        within: how often Pillow's MAX_IMAGE_PIXELS (89 million) is taken; Pillow itself refuses more than twice.

    Raises:
        UserError: RGSUD_MAX_MEGAPIXELS is no positive number.
    """
    given = given_limit()
    if given is not None:
        return given
    with _LOCK:
        return math.inf if Image.MAX_IMAGE_PIXELS is None else within * Image.MAX_IMAGE_PIXELS


def limit_mark() -> bytes:
    """What a cache adds to the hash of its content: another limit takes other images; nothing where none is set."""
    given = given_limit()
    return b"" if given is None else f"at most {given:.0f} pixels\n".encode()


def check_pixels(height: int, width: int, most: float) -> None:
    """Refuse an image of more pixels, without its name.

    Raises:
        UserError: it says how to allow it.
    """
    if height * width > most:
        allow = f"allow it with {VARIABLE}={math.ceil(height * width / 1e6)}"
        raise UserError(f"{width} x {height} pixels, more than {most:,.0f}; cut or shrink it, or {allow}")


def is_beyond_pillow(height: int, width: int) -> bool:
    """Whether Pillow would warn of so many pixels, or refuse them, once more while it decodes."""
    with _LOCK:
        return Image.MAX_IMAGE_PIXELS is not None and height * width > Image.MAX_IMAGE_PIXELS


@contextlib.contextmanager
def without_pillows_limit() -> Iterator[None]:
    """Let this thread open and decode what `check_pixels` allows, whatever Pillow's own limit is; others wait."""
    with _LOCK:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before
