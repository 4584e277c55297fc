"""Image files: whatever a user has, as upright 8-bit RGB, and back to disk."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError, features
from torch import Tensor

from ..errors import UserError, install
from ..system.files import replacing
from ..system.names import takes_home
from .pixel_limit import check_pixels, given_limit, is_beyond_pillow, most_pixels, without_pillows_limit
from .tiff import Tiff, decode_tiff

JPEG = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})
SUFFIXES = JPEG | {".png", ".bmp", ".tif", ".tiff", ".webp"}  # of files that are read and written
_OF_CAMERAS = "dng cr2 cr3 crw nef nrw arw srf orf rw2 raf pef srw raw x3f 3fr iiq"
RAW = frozenset(f".{kind}" for kind in _OF_CAMERAS.split())  # as they are
SMALLEST = 32  # pixels on the shorter side

_LONGEST = {".webp": 16383, **dict.fromkeys(JPEG, 65500)}  # pixels on a side that Pillow's encoders write


def _more_formats() -> dict[str, frozenset[str]]:
    """What is read where Pillow or a plug-in can, and never written: Pillow's names, and the endings of each."""
    more = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow before 11.3 warns that it knows no AVIF
        if features.check("avif"):
            more["AVIF"] = frozenset({".avif"})
    with contextlib.suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
        more["HEIF"] = frozenset({".heic", ".heif", ".hif"})
    return more


_MORE = _more_formats()
FORMATS = (
    "PNG",
    "JPEG",
    "BMP",
    "TIFF",
    "WEBP",
    *_MORE,
)  # whatever a name ends in; some of Pillow's run programs
READABLE = SUFFIXES.union(*_MORE.values())


@takes_home
def read_image(path: str | Path, smallest: int = SMALLEST) -> np.ndarray:
    """Decode one file to upright 8-bit RGB.

    Grey is repeated over the channels, 16 bits are scaled to 8, transparency is laid on white as viewers do, the
    camera's EXIF rotation is applied, and of several pages or frames the first counts.

    Args:
        path: PNG, JPEG, BMP, TIFF or WebP file, or AVIF or HEIC where Pillow or pillow-heif reads them; of at most 179
            million pixels, twice Pillow's limit, or as many as RGSUD_MAX_MEGAPIXELS allows.
        smallest: least height and width, in pixels.

    Returns:
        uint8 [H, W, 3].

    Raises:
        UserError: the file is missing, cannot be decoded, or is too small; the message names it.
    """
    with decoding(path):
        return decode_image(path, smallest)


def decode_image(file: str | Path | bytes, smallest: int = SMALLEST, largest: float | None = None) -> np.ndarray:
    """Decode a file or its content as `read_image` does, for callers that name it themselves.

    Args:
        file: its path, or the bytes in it.
        smallest: least height and width, in pixels.
        largest: most pixels in all, looked at before they are decoded; `most_pixels` unless given.

    Raises:
        UserError: what is wrong with it.
    """
    largest = most_pixels() if largest is None else largest
    with decoding(suffix="" if isinstance(file, bytes) else Path(file).suffix):
        tiff = decode_tiff(file, largest)
        if tiff is None:
            with open_image(file, largest) as opened:
                ImageOps.exif_transpose(opened, in_place=True)
                rgb = to_rgb(opened)
        else:
            rgb = to_rgb(_upright(tiff))
    check_size(rgb.shape[0], rgb.shape[1], smallest)
    return rgb


@contextlib.contextmanager
def open_image(file: str | Path | bytes, largest: float | None = None) -> Iterator[ImageFile.ImageFile]:
    """Open a file or its content with Pillow, for reading and for as long as it is decoded.

    Args:
        file: its path, or the bytes in it.
        largest: most pixels in all; `most_pixels` unless given.

    Raises:
        UserError: it has more. Whatever a damaged file makes its codec raise.
    """
    largest = most_pixels() if largest is None else largest

    def open_it() -> ImageFile.ImageFile:
        return Image.open(BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS)

    with contextlib.ExitStack() as stack:
        try:
            with contextlib.nullcontext() if given_limit() is None else without_pillows_limit():
                image = stack.enter_context(open_it())
        except Image.DecompressionBombError:  # opened for its size alone
            with without_pillows_limit():
                image = stack.enter_context(open_it())
        check_pixels(image.height, image.width, largest)
        if given_limit() is not None and is_beyond_pillow(image.height, image.width):
            stack.enter_context(without_pillows_limit())
        yield image


@takes_home
def write_image(path: str | Path, image: Tensor | np.ndarray) -> None:
    """Save one image, all or nothing; the suffix of the name chooses the format.

    Args:
        path: where to; an existing file is replaced.
        image: float [3, H, W] in [0, 1] (clamped, then rounded to 8 bits), or uint8 [H, W, 3].

    Raises:
        UserError: a suffix that is none of the supported formats.
    """
    options = save_options(suffix_of(path))
    with replacing(path) as temporary:
        Image.fromarray(to_bytes(image)).save(temporary, **options)


@contextlib.contextmanager
def decoding(path: str | Path | None = None, suffix: str = "") -> Iterator[None]:
    """Turn whatever goes wrong while a file is decoded into a UserError that begins with its path, if that is given.

    `suffix` is what the file's name ends in, where the caller names it.
    """
    suffix = suffix if path is None else Path(path).suffix
    name = "" if path is None else f"{path}: "
    try:
        yield
    except UserError as error:
        raise UserError(f"{name}{error}") from None
    except FileNotFoundError:
        raise UserError(f"{name}no such file") from None
    # A damaged file makes its codec raise nearly anything: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        reason = _first_line(error)
        if isinstance(error, UnidentifiedImageError):
            reason = hint_of(suffix) or "of no known kind"
        raise UserError(f"{name}cannot be read as an image ({reason}); replace or remove it") from None


def hint_of(suffix: str) -> str:
    """What makes files of an ending readable, or what to do with them; "" of others."""
    suffix = suffix.lower()
    if suffix in (".heic", ".heif", ".hif"):
        return f"HEIC is read with the extra heif: {install('heif')}"
    if suffix == ".avif":
        return "AVIF is read with Pillow 11.3 or later"
    if suffix in RAW:
        return "raw photographs are not read: develop them to TIFF or JPEG"
    return "GIF is not read: write it as PNG" if suffix == ".gif" else ""


def check_size(height: int, width: int, smallest: int) -> None:
    """Refuse an image that is too small, without its name."""
    if min(height, width) < smallest:
        raise UserError(f"{width} x {height} pixels, at least {smallest} on each side needed; remove it")


def check_largest(path: str | Path, height: int, width: int) -> None:
    """Refuse an image that the format of `path` cannot hold, before anything is computed for it.

    Raises:
        UserError: a side longer than the format's longest, or a suffix that is none of the supported formats.
    """
    suffix = suffix_of(path)
    if max(height, width) > (most := _LONGEST.get(suffix, max(height, width))):
        raise UserError(f"{path}: {width} x {height} pixels, {suffix[1:]} holds {most} on a side; write .png or .tif")


def suffix_of(path: str | Path) -> str:
    """The lower-case suffix of an image file to write; one that is no image's is refused."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: cannot write this format; end the name in .png or .jpg")
    return suffix


def save_options(suffix: str) -> dict[str, Any]:
    """What Pillow is told when it saves a file of that suffix."""
    if suffix == ".webp":
        return {"lossless": True}
    return {"quality": 95, "subsampling": 0} if suffix in JPEG else {}


def to_batch(image: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """One uint8 [H, W, 3] image as a float32 [1, 3, H, W] batch in [0, 1]."""
    return to_tensor(image).to(device)[None]


def quantise(image: Tensor) -> Tensor:
    """Round a float image in [0, 1] of any shape to uint8; values outside are clamped."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def to_bytes(image: Tensor | np.ndarray) -> np.ndarray:
    """Bring a float [3, H, W] image in [0, 1] (or a uint8 [H, W, 3] one, unchanged) to uint8 [H, W, 3]."""
    if isinstance(image, Tensor):
        image = quantise(image.detach().float()).permute(1, 2, 0).cpu().numpy()
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be float [3, H, W] or uint8 [H, W, 3], got {image.dtype} {image.shape}")
    return np.ascontiguousarray(image)


def to_tensor(image: np.ndarray) -> Tensor:
    """Bring a uint8 [H, W, 3] image (a read-only view of a cache included) to float32 [3, H, W] in [0, 1]."""
    return torch.from_numpy(np.array(image.transpose(2, 0, 1))).float().div_(255)


def to_rgb(image: Image.Image) -> np.ndarray:
    """Bring an open image to 8-bit RGB, transparency laid on white."""
    if image.mode.startswith("I") or image.mode == "F":
        grey = _deep_to_8_bits(np.asarray(image), image.mode)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))  # a copy costs half as much as a JPEG


def to_8_bits(values: np.ndarray) -> np.ndarray:
    """Scale uint16 to uint8: v * 255 / 65535, rounded."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _upright(tiff: Tiff) -> Image.Image:
    pixels = tiff.pixels if tiff.pixels.dtype == np.uint8 else to_8_bits(tiff.pixels)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image.getexif().update(tiff.exif)
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _deep_to_8_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Scale grey values of 16 bits, or floats in [0, 1], to uint8."""
    top = 1.0 if mode == "F" else 65535.0
    if not (values.min() >= 0 and values.max() <= top):
        raise ValueError(f"grey values from {values.min()} to {values.max()}, expected 0 to {top:g}")
    return np.rint(values.astype(np.float64) * (255 / top)).astype(np.uint8)


def natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key under which runs of digits compare as numbers; the name itself settles ties such as 1 and 01."""
    parts = [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]
    return [*parts, (2, name)]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
