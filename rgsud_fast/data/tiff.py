"""TIFF files that Pillow cuts to 8 bits, gets wrong or does not know: tifffile reads them."""

from __future__ import annotations

import logging
import lzma
import math
import zlib
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image

from ..errors import UserError
from .pixel_limit import check_pixels

if TYPE_CHECKING:
    from tifffile import TiffPage

BEGINS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how a file begins, BigTIFF included
TEXTS = (  # of EXIF, which a TIFF file keeps as tags of its own
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = range(3)  # photometric
_PLANES = 2  # planar configuration
_PREMULTIPLIED = 1  # extra sample
_NONE, _PACKBITS = 1, 32773  # compression
_BOUNDED: dict[int, Any] = {  # what tifffile unpacks itself, however much comes out
    8: zlib.decompressobj,
    32946: zlib.decompressobj,
    34925: lzma.LZMADecompressor,
}


class Tiff(NamedTuple):
    """The first page of a file, as stored: not yet turned upright."""

    pixels: np.ndarray  # uint8 or uint16 [H, W, 1 to 4]: grey or RGB, then alpha
    exif: Image.Exif  # orientation and texts
    icc: bytes | None
    foreign: bool  # BigTIFF in Motorola's order, at which Pillow stumbles and warns


def decode_tiff(file: str | Path | bytes, most: float) -> Tiff | None:
    """Read a TIFF of 16 bits per channel, or one of 8 bits that Pillow does not open or gets wrong.

    Strips, tiles, planes, compression, BigTIFF and white-is-zero are tifffile's to know.

    Args:
        file: its path, or the bytes in it.
        most: pixels that it may have.

    Returns:
        None of any other file, and where it is Pillow that can decompress it.

    Raises:
        UserError: more pixels; or compressed in a way that needs imagecodecs, which is missing, and in planes or
            white-is-zero.
    """
    if isinstance(file, bytes):
        begin = file[:4]
    else:
        with open(file, "rb") as opened:
            begin = opened.read(4)
    if begin not in BEGINS:
        return None
    import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what is wrong is told in our words
    with tifffile.TiffFile(BytesIO(file) if isinstance(file, bytes) else file) as tiff:
        if not len(tiff.pages):
            return None
        page: Any = tiff.pages.first
        kind, bits = page.photometric, page.bitspersample
        _check_samples(page)
        if page.dtype not in (np.uint8, np.uint16) or bits != page.dtype.itemsize * 8 or kind not in range(3):
            return None
        planes = page.planarconfig == _PLANES and page.samplesperpixel > 1
        deep = bits == 16
        foreign = tiff.is_bigtiff and tiff.byteorder == ">"
        if not deep and not foreign and _is_pillows(page, planes):
            return None
        if page.axes not in ("YX", "YXS", "SYX"):
            return None
        check_pixels(page.imagelength, page.imagewidth, most)
        if page.compression not in (_NONE, _PACKBITS, *_BOUNDED) and find_spec("imagecodecs") is None:
            if deep and not planes and kind != _WHITE_IS_ZERO:
                return None  # Pillow's libtiff decompresses it
            raise UserError("its compression needs imagecodecs: pip install imagecodecs")
        _check_segments(page, most)
        return Tiff(_pixels(page), _exif(page), page.iccprofile, foreign)


def _check_samples(page: TiffPage) -> None:
    """Refuse samples whose range nobody says; grey floats in [0, 1] are Pillow's.

    Raises:
        UserError: such a file.
    """
    kind = page.dtype
    floats = kind is not None and kind.kind == "f" and page.samplesperpixel > 1
    if kind is not None and (floats or kind.kind == "i" or (kind.kind == "u" and kind.itemsize > 2)):
        raise UserError(f"samples of type {kind} are not read; write it again as 8 or 16 bits without sign")


def _is_pillows(page: TiffPage, planes: bool) -> bool:
    """Whether Pillow reads an 8-bit page: not grey and alpha in planes, nor white-is-zero with alpha."""
    return page.photometric == _RGB or page.samplesperpixel == 1 or not (planes or _turned(page))


def _turned(page: TiffPage) -> bool:
    return page.photometric == _WHITE_IS_ZERO


def _check_segments(page: TiffPage, most: float) -> None:
    """Refuse what asks for far more memory than its pixels (many samples, huge tiles, strips that unpack to more), and
    files that lack strips or tiles, which tifffile would leave black.

    Raises:
        UserError: such a file.
    """
    samples, values = math.prod(page.chunks), math.prod(page.shape)
    if max(samples, values) > 4 * most:
        what = f"{values:,} values in strips or tiles of {samples:,}"
        raise UserError(f"{what}, more than {4 * most:,.0f}; write it again as RGB, in smaller tiles")
    found, wanted = len(page.dataoffsets), math.prod(page.chunked)
    if found != wanted and not page.is_contiguous:
        raise UserError(f"{found} of {wanted} strips or tiles are there; replace or remove it")
    unpacker = _BOUNDED.get(page.compression)
    if unpacker is None:
        return
    room = samples * page.dtype.itemsize  # type: ignore[union-attr]
    handle = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        handle.seek(offset)
        if len(unpacker().decompress(handle.read(count), room + 1)) > room:
            raise UserError("its strips or tiles hold more than they say")


def _pixels(page: TiffPage) -> np.ndarray:
    pixels = page.asarray()
    pixels = np.moveaxis(pixels, 0, 2) if page.axes == "SYX" else pixels
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    colours = 3 if page.photometric == _RGB else 1
    pixels = pixels[..., : colours + (len(page.extrasamples) > 0)]
    colour, alpha = pixels[..., :colours], pixels[..., colours:]
    top = np.iinfo(pixels.dtype).max
    if page.extrasamples and page.extrasamples[0] == _PREMULTIPLIED:
        seen = np.maximum(alpha, 1).astype(np.uint32)
        colour = np.minimum((colour.astype(np.uint32) * top + seen // 2) // seen, top).astype(pixels.dtype)
    if _turned(page):
        colour = top - colour
    return np.concatenate([colour, alpha], axis=2)


def _exif(page: TiffPage) -> Image.Exif:
    exif = Image.Exif()
    for tag in (ExifTags.Base.Orientation, *TEXTS):
        if (found := page.tags.get(int(tag))) is not None:
            exif[tag] = found.value
    return exif
