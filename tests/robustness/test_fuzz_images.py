"""Image files from anywhere that are damaged, or made to do damage."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from fuzzing import NUMBERS, damaged, refuses, try_cases
from hypothesis import strategies as st
from PIL import Image

from rgsud_fast.data import read_image
from rgsud_fast.data.photo import read_photo
from rgsud_fast.data.sixteen_bit import write_png, write_tiff

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def photo(mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (36, 40, 3), dtype=np.uint8) // 32 * 32
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    if mode == "F":
        return Image.fromarray(pixels[..., 0].astype(np.float32) / 255)
    return Image.fromarray(pixels).convert(mode)


def saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    held = io.BytesIO()
    photo(mode).save(held, kind, **options)
    return held.getvalue()


def images() -> dict[str, bytes]:
    """A valid file of each format, in its colour modes and compressions."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "turned"
    files = {f"png {mode}": saved("PNG", mode) for mode in ("RGB", "RGBA", "P", "L", "LA", "1", "I;16")}
    files["png transparent"] = saved("PNG", "P", transparency=3)
    files["png exif"] = saved("PNG", exif=exif, icc_profile=b"no profile", dpi=(72, 72))
    files["png frames"] = saved("PNG", save_all=True, append_images=[photo()])
    files |= {f"jpeg {mode}": saved("JPEG", mode) for mode in ("RGB", "L", "CMYK")}
    files["jpeg exif"] = saved("JPEG", exif=exif, progressive=True, optimize=True)
    files |= {f"bmp {mode}": saved("BMP", mode) for mode in ("RGB", "RGBA", "P", "L", "1")}
    files |= {f"tiff {mode}": saved("TIFF", mode) for mode in ("RGB", "RGBA", "P", "L", "1", "CMYK", "I;16", "F")}
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        files[compression] = saved("TIFF", compression=compression)
    files["tiff g4"] = saved("TIFF", "1", compression="group4")
    files["tiff frames"] = saved("TIFF", save_all=True, append_images=[photo("L")], exif=exif)
    files |= {f"webp {mode}": saved("WEBP", mode, lossless=mode == "RGBA") for mode in ("RGB", "RGBA")}
    files["webp frames"] = saved("WEBP", save_all=True, append_images=[photo("RGBA")], exif=exif)
    return files


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


SIDES = st.sampled_from((0, 1, 31, 32, 33, 64, 2**16, 2**31 - 1, 2**31, 2**32 - 1))


@st.composite
def png(draw: st.DrawFn) -> tuple[str, bytes]:
    """Chunks with right checksums and wrong contents."""
    head = struct.pack(">II", draw(SIDES), draw(SIDES)) + bytes(
        draw(st.sampled_from(((8, 2), (8, 6), (16, 2), (8, 3), (1, 0), (16, 0), (3, 9))))
    )
    head += bytes(draw(st.lists(st.sampled_from((0, 0, 1, 7)), min_size=3, max_size=3)))
    kinds = st.sampled_from(
        (b"PLTE", b"tRNS", b"eXIf", b"iCCP", b"zTXt", b"iTXt", b"pHYs", b"acTL", b"fcTL", b"gAMA", b"cHRM", b"sRGB")
    )
    contents = st.binary(max_size=40) | st.just(b"a\0\0" + zlib.compress(bytes(2**21)))
    extra = [chunk(draw(kinds), draw(contents)) for _ in range(draw(st.integers(0, 3)))]
    body = zlib.compress(bytes(draw(st.sampled_from((0, 100, 3 * 33 * 34, 2**20)))))
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), *extra, chunk(b"IDAT", body), chunk(b"IEND", b"")]
    return "png made", b"".join(parts)


@st.composite
def bmp(draw: st.DrawFn) -> tuple[str, bytes]:
    """A header of drawn sizes, depth, compression and palette before a few rows."""
    planes, depth = draw(st.sampled_from((0, 1, 3))), draw(st.sampled_from((0, 1, 2, 4, 8, 16, 24, 32, 64)))
    compression, colours = draw(st.integers(0, 6)), draw(st.sampled_from((0, 1, 256, 2**31, 2**32 - 1)))
    size = draw(st.sampled_from((12, 40, 52, 56, 64, 108, 124, 2**31)))
    info = struct.pack("<IIIHHIIIIII", size, draw(SIDES), draw(SIDES), planes, depth, compression, 0, 0, 0, colours, 0)
    start = draw(st.sampled_from((0, 54, 60, 1078, 2**31)))
    return "bmp made", b"BM" + struct.pack("<IHHI", 0, 0, 0, start) + info + draw(st.binary(max_size=64)) * 40


TAGS = (
    254,
    256,
    257,
    258,
    259,
    262,
    266,
    273,
    274,
    277,
    278,
    279,
    282,
    284,
    317,
    320,
    322,
    323,
    324,
    325,
    338,
    339,
    347,
    700,
    34665,
    34675,
)


@st.composite
def tiff(draw: st.DrawFn) -> tuple[str, bytes]:
    """A directory of drawn entries; those that a decoder needs come first, so that some get far."""
    order = draw(st.sampled_from(("<", ">")))
    entries = [(256, 4, 1, draw(SIDES)), (257, 4, 1, draw(SIDES)), (258, 3, 1, 8), (262, 3, 1, draw(st.integers(0, 8)))]
    entries += [
        (259, 3, 1, draw(st.sampled_from((1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34712, 50000)))),
        (273, 4, 1, 8),
    ]
    entries += [
        (278, 4, 1, 33),
        (279, 4, 1, draw(st.sampled_from((0, 40, 33 * 33, 2**32 - 1)))),
        (277, 3, 1, draw(st.integers(0, 5))),
    ]
    wild = st.tuples(st.sampled_from(TAGS), st.integers(0, 17), st.sampled_from(NUMBERS), st.sampled_from(NUMBERS))
    entries = sorted(entries + draw(st.lists(wild, max_size=3)))
    body = draw(st.binary(min_size=1, max_size=64)) * 30
    directory = struct.pack(order + "H", len(entries)) + b"".join(struct.pack(order + "HHII", *e) for e in entries)
    following = draw(st.sampled_from((0, 8, 8 + len(body), 2**31)))
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return "tiff made", mark + struct.pack(order + "I", 8 + len(body)) + body + directory + struct.pack(
        order + "I", following
    )


def test_the_image_readers_read_or_refuse(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2**20)  # the limit itself is Pillow's; here cases are to be quick
    path = tmp_path / "photo.png"

    def check(case: tuple[str, bytes]) -> None:
        path.write_bytes(case[1])
        image = refuses(read_image, path, "photo.png")
        if image is not None:
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert image.shape[2] == 3
            assert image.size <= 6 * 2**20
        kept = refuses(read_photo, path, "photo.png")  # as `derain` reads: sixteen bits, alpha and what is said of it
        if kept is not None:
            assert kept.pixels.dtype in (np.uint8, np.uint16)
            assert kept.pixels.ndim == 3
            assert kept.pixels.shape[2] in (1, 3)

    whole = images()
    deep = [("png", write_png, n) for n in (1, 2, 3, 4)] + [("tiff", write_tiff, n) for n in (3, 4)]
    for kind, write, channels in deep:
        write(path, np.full((36, 40, channels), 40_000, np.uint16), b"", None, (72, 72))
        whole[f"{kind} deep {channels}"] = path.read_bytes()
    for name, data in whole.items():
        check((name, data))
        path.write_bytes(data)
        assert read_image(path).shape in ((36, 40, 3), (40, 36, 3))
    try_cases(check, 2500, st.one_of(damaged(whole), damaged(whole), png(), bmp(), tiff()))
