"""Photographs from file to file: their depth, transparency, EXIF data, colour profile and resolution are kept."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from ..errors import UserError
from ..system.files import replacing
from .image_files import (
    JPEG,
    SMALLEST,
    check_largest,
    check_size,
    decoding,
    open_image,
    save_options,
    suffix_of,
    to_8_bits,
    to_rgb,
)
from .pixel_limit import most_pixels
from .sixteen_bit import decode_deep, is_deep, write_png, write_tiff
from .tiff import decode_tiff

_WITH_DEPTH = {".png": write_png, ".tif": write_tiff, ".tiff": write_tiff}
_WITH_ALPHA = {".png", ".tif", ".tiff", ".webp"}
_WITH_EXIF = _WITH_ALPHA | JPEG
_LEFT_AWAY = "EXIF data, colour profile or resolution that the format cannot hold is left away"
_DAMAGED = "its EXIF data is damaged and is left away"
_EXIF_OF_JPEG = 65533  # bytes that one marker holds
_FOREIGN = ("CMYK", "LAB", "HSV")  # their profiles mean nothing for the RGB that is made of them
# EXIF tags that tell how one file stores its pixels, resolution and other blocks, and not what the photograph is.
_STORAGE = {*range(254, 269), *range(273, 285), 296, 301, *range(317, 348), *range(512, 533), 700, 33723, 34377, 34675}
# EXIF orientation: how the stored pixels are turned upright.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x, 1),
}


@dataclass(frozen=True)
class Photo:
    """One upright photograph in the numbers of its file, with what the file says about it."""

    pixels: np.ndarray  # uint8 or uint16 [H, W, 3], or [H, W, 1] of a grey one
    alpha: np.ndarray | None = None  # of the same type, [H, W, 1]
    exif: bytes = b""
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None

    def window(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """Pixels as float32 [1, 3, h, w] in [0, 1]; grey is repeated."""
        pixels = self.pixels[top:bottom, left:right].transpose(2, 0, 1).astype(np.float32)
        return torch.from_numpy(pixels).div_(np.iinfo(self.pixels.dtype).max).expand(3, -1, -1)[None]

    def on_white(self) -> Tensor:
        """The whole of it as float32 [1, 3, H, W] in [0, 1], laid on white where it is transparent."""
        image = self.window(0, self.pixels.shape[0], 0, self.pixels.shape[1])
        if self.alpha is None:
            return image.contiguous()
        alpha = Photo(self.alpha).window(0, self.pixels.shape[0], 0, self.pixels.shape[1])
        return image * alpha + (1 - alpha)

    def numbers(self, band: Tensor) -> np.ndarray:
        """Bring float [1, 3, h, W] to numbers like those of `pixels`: clamped, rounded, and grey again if they are."""
        band = band[0].float().clamp(0, 1)
        if self.pixels.shape[2] == 1:
            band = band.mean(0, keepdim=True)
        values = (band * np.iinfo(self.pixels.dtype).max).round().permute(1, 2, 0)
        return values.cpu().numpy().astype(self.pixels.dtype)


def read_photo(path: str | Path, smallest: int = SMALLEST) -> Photo:
    """Decode one file, upright; of several pages or frames the first counts.

    Sixteen bits are kept in RGB and grey, with or without alpha, and grey stays grey. What is neither, such as a
    palette or CMYK, becomes 8-bit RGB.

    Args:
        path: of the formats and pixels that `read_image` takes.
        smallest: least height and width, in pixels.

    Raises:
        UserError: the file is missing, cannot be decoded, or is too small; the message names it.
    """
    with decoding(path):
        tiff = decode_tiff(path, most_pixels())
        if tiff is None or not tiff.foreign:
            try:
                with open_image(path) as image:
                    check_size(image.height, image.width, smallest)
                    if tiff is not None:
                        pixels = tiff.pixels
                    else:
                        # Pillow turns a TIFF upright if it loads it, and forgets its orientation; others it leaves us.
                        pixels = decode_deep(path) if is_deep(image) else _shallow(image)
                        image.load()
                    icc = None if image.mode in _FOREIGN else image.info.get("icc_profile")
                    return _turn(path, pixels, image.getexif, icc, _resolution(image.info.get("dpi")))
            except UnidentifiedImageError:
                if tiff is None:
                    raise
        check_size(tiff.pixels.shape[0], tiff.pixels.shape[1], smallest)
        return _turn(path, tiff.pixels, lambda: tiff.exif, tiff.icc, None)


def write_photo(path: str | Path, photo: Photo) -> None:
    """Save a photograph, all or nothing; the suffix of the name chooses the format.

    PNG and TIFF hold all of it (a 16-bit TIFF of EXIF only the texts of the first block); WebP and JPEG hold 8 bits.
    Where there is no alpha, in JPEG and BMP, the photograph is laid on white.

    What the file says about its pixels is a courtesy: what the format cannot hold is left away.

    Raises:
        UserError: a suffix that is none of the supported formats, or more pixels than the format holds.
    """
    suffix = suffix_of(path)
    check_largest(path, *photo.pixels.shape[:2])
    given = photo
    if suffix not in _WITH_EXIF:
        photo = replace(photo, exif=b"", icc=None)
    tries = [photo, replace(photo, exif=b""), Photo(photo.pixels, photo.alpha)]
    if suffix not in _WITH_ALPHA and len(photo.exif) > _EXIF_OF_JPEG:
        tries[0] = tries[1]
    with replacing(path) as temporary:
        for held in tries:
            try:
                _save(temporary, suffix, held)
            except Exception as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                reason = str(error).splitlines()[:1] or [type(error).__name__]
                failure = f"{path}: cannot be written ({reason[0]}); write .png, or convert the input to PNG"
            else:
                if (held.exif, held.icc, held.dpi) != (given.exif, given.icc, given.dpi):
                    warnings.warn(f"{path}: {_LEFT_AWAY}", stacklevel=2)
                return
        raise UserError(failure)


def _save(path: Path, suffix: str, photo: Photo) -> None:
    if photo.pixels.dtype == np.uint16 and suffix in _WITH_DEPTH:
        _WITH_DEPTH[suffix](path, _with_alpha(photo), photo.exif, photo.icc, photo.dpi)
        return
    pixels = _with_alpha(_to_8_bits(photo))
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if photo.alpha is not None and suffix not in _WITH_ALPHA:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    options = save_options(suffix) | {"icc_profile": photo.icc}
    if photo.dpi:
        options["dpi"] = photo.dpi
    if photo.exif:
        options["exif"] = photo.exif
    image.save(path, **options)


def _turn(
    path: str | Path,
    pixels: np.ndarray,
    get_exif: Callable[[], Image.Exif],
    icc: bytes | None,
    dpi: tuple[float, float] | None,
) -> Photo:
    """Pixels as they are stored, upright, with what the file says about them."""
    try:
        exif = get_exif()
        turn = _UPRIGHT.get(exif.pop(ExifTags.Base.Orientation, 1), _UPRIGHT[1])
    except Exception:  # damaged EXIF makes Pillow raise nearly anything; the pixels count
        exif, turn = Image.Exif(), _UPRIGHT[1]
        warnings.warn(f"{path}: {_DAMAGED}", stacklevel=3)
    pixels = turn(pixels)
    about = _about(exif, path, pixels.shape[0], pixels.shape[1])
    colours = pixels.shape[2] - (pixels.shape[2] in (2, 4))
    alpha = np.ascontiguousarray(pixels[..., colours:]) if colours < pixels.shape[2] else None
    return Photo(np.ascontiguousarray(pixels[..., :colours]), alpha, about, icc, dpi)


def _shallow(image: Image.Image) -> np.ndarray:
    """8-bit pixels of an open image, [H, W, 1 to 4]."""
    if image.mode in ("PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode == "1":
        image = image.convert("L")
    pixels = np.array(image) if image.mode in ("L", "LA", "RGB", "RGBA") else to_rgb(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _about(exif: Image.Exif, path: str | Path, height: int, width: int) -> bytes:
    """What EXIF says of the photograph itself; its thumbnail, which shows the rain, is left out, and damaged EXIF."""
    try:
        for tag in _STORAGE & set(exif):
            del exif[tag]
        if ExifTags.IFD.Exif in exif:
            block = exif.get_ifd(ExifTags.IFD.Exif)
            for tag, side in ((ExifTags.Base.ExifImageWidth, width), (ExifTags.Base.ExifImageHeight, height)):
                if tag in block:
                    block[tag] = side
        if exif.bigtiff:  # what holds EXIF data, also a classic TIFF, knows no such offsets
            exif = _copy(exif)
        return exif.tobytes() if len(exif) else b""
    except Exception:  # a value of another type than its tag has, for one
        warnings.warn(f"{path}: {_DAMAGED}", stacklevel=4)
        return b""


def _copy(exif: Image.Exif) -> Image.Exif:
    """The same in the order of bytes and with the offsets that Pillow writes unless told otherwise."""
    copy = Image.Exif()
    for tag, value in exif.items():
        copy[tag] = exif.get_ifd(tag) if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo) else value
    return copy


def _resolution(dpi: object) -> tuple[float, float] | None:
    """A resolution that every format holds, in pixels per inch, or none."""
    try:
        across, down = (float(value) for value in dpi)  # type: ignore[attr-defined]
    except (TypeError, ValueError, ArithmeticError):
        return None
    return (across, down) if all(1 <= value <= 65535 for value in (across, down)) else None


def _with_alpha(photo: Photo) -> np.ndarray:
    return photo.pixels if photo.alpha is None else np.concatenate([photo.pixels, photo.alpha], axis=2)


def _to_8_bits(photo: Photo) -> Photo:
    """The same photograph in uint8; v * 255 / 65535, rounded."""
    if photo.pixels.dtype == np.uint8:
        return photo
    return replace(photo, pixels=to_8_bits(photo.pixels), alpha=None if photo.alpha is None else to_8_bits(photo.alpha))
