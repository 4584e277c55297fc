"""Sixteen bits per channel: Pillow cannot hold them in colour, so here are the ways around it.

TIFF is read (`tiff`) and written by tifffile. Reading a PNG, and a TIFF whose compression (LZW) tifffile leaves to
imagecodecs, takes Pillow twice: told the right byte order it keeps the high bytes, told the other one the low bytes.
PNG is written here: the libraries that could cost a wheel of 26 MB (imagecodecs) or more (OpenCV, PyAV), or rest since
2022 (pypng), and a writer is zlib and a few headers.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .image_files import open_image
from .tiff import TEXTS

_DEEP = ("RGB;16", "RGBA;16", "RGBX;16", "LA;16")  # Pillow's names for pixels that it cuts down to eight bits
_NATIVE = "L" if sys.byteorder == "little" else "B"
_ROWS = 64  # of a PNG, compressed at a time


def is_deep(image: Image.Image) -> bool:
    """Whether an image that is open and not yet loaded has 16 bits per channel, which `decode_deep` keeps."""
    if image.mode.startswith("I;16"):
        return True
    layouts = {_layout(tile[3]) for tile in getattr(image, "tile", [])}
    return len(layouts) == 1 and layouts.pop()[:-1] in _DEEP and "transparency" not in image.info


def decode_deep(path: str | Path) -> np.ndarray:
    """The pixels of such a file, uint16 [H, W, 1 to 4], as stored, but a TIFF upright."""
    with open_image(path) as image:
        if image.mode.startswith("I;16"):
            return np.asarray(image).astype(np.uint16)[..., None]
        layout = _layout(image.tile[0][3])
    if layout == "LA;16B":  # four bytes a pixel, as RGBA has
        grey, grey_low, alpha, alpha_low = np.moveaxis(_decode_as(path, "RGBA"), 2, 0)
        return np.stack([_both(grey, grey_low), _both(alpha, alpha_low)], axis=2)
    kind, order = layout[:-1], layout[-1].replace("N", _NATIVE)
    return _both(_decode_as(path, layout), _decode_as(path, kind + {"L": "B", "B": "L"}[order]))


def write_png(path: Path, pixels: np.ndarray, exif: bytes, icc: bytes | None, dpi: tuple[float, float] | None) -> None:
    """Write uint16 [H, W, 1 to 4] as PNG (grey, grey and alpha, RGB, RGB and alpha)."""
    height, width, channels = pixels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
        if icc:
            _chunk(file, b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
        if dpi:
            _chunk(file, b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in dpi), 1))
        if exif:
            _chunk(file, b"eXIf", exif.removeprefix(b"Exif\0\0"))
        for data in _compress(pixels):
            _chunk(file, b"IDAT", data)
        _chunk(file, b"IEND", b"")


def write_tiff(path: Path, pixels: np.ndarray, exif: bytes, icc: bytes | None, dpi: tuple[float, float] | None) -> None:
    """Write uint16 [H, W, 1 to 4] as TIFF. Of EXIF it keeps the texts of the first block, such as camera and date."""
    import tifffile

    read = Image.Exif()
    read.load(exif)
    texts = [(int(tag), "s", 0, str(read[tag]), True) for tag in TEXTS if tag in read]
    channels = pixels.shape[2]
    tifffile.imwrite(
        path,
        pixels if channels > 1 else pixels[..., 0],
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression="zlib",
        iccprofile=icc,
        resolution=dpi,
        resolutionunit="INCH" if dpi else None,
        extratags=texts,
        metadata=None,
    )


def _layout(arguments: str | tuple[Any, ...] | None) -> str:
    """How a decoder of Pillow's understands the bytes of a pixel."""
    name = arguments if isinstance(arguments, str) else arguments[0] if arguments else ""
    return name if isinstance(name, str) and name else "?"


def _decode_as(path: str | Path, layout: str) -> np.ndarray:
    """Let Pillow decode a file whose pixels are laid out in this way, [H, W, C] of bytes."""
    with open_image(path) as image:
        image.tile = [
            tile._replace(args=(layout, *tile[3][1:]) if isinstance(tile[3], tuple) else layout) for tile in image.tile
        ]
        return np.array(image)


def _both(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    values = high.astype(np.uint16)
    values <<= 8
    values |= low
    return values


def _compress(pixels: np.ndarray) -> Iterator[bytes]:
    """The zlib stream of a PNG, every row as its difference from the one above."""
    packer = zlib.compressobj()
    above = np.zeros(pixels[0].size * 2, np.uint8)
    for top in range(0, len(pixels), _ROWS):
        rows = pixels[top : top + _ROWS].astype(">u2").view(np.uint8).reshape(-1, above.size)
        filtered = np.full((len(rows), 1 + above.size), 2, np.uint8)  # each row begins with the number of its filter
        filtered[:, 1:] = rows - np.vstack([above, rows[:-1]])
        above = rows[-1]
        yield packer.compress(filtered.data)
    yield packer.flush()


def _chunk(file, name: bytes, data: bytes) -> None:
    if data or name == b"IEND":
        file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))
