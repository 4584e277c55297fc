"""TIFF as other programs write it, to derain at its depth and to train on in 8 bits: tifffile is the witness."""

from __future__ import annotations

import warnings
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from rgsud_fast.data import FolderSet, read_image, read_photo, write_photo
from rgsud_fast.data import tiff as tiff_module
from rgsud_fast.data.image_files import decode_image
from rgsud_fast.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 65536, (40, 57, 3), dtype=np.uint16)
LAYOUTS = {
    "plain": {},
    "deflate": {"compression": "zlib"},
    "predictor": {"compression": "zlib", "predictor": True},
    "tiled": {"tile": (32, 32)},
    "strips": {"rowsperstrip": 7},
    "big": {"bigtiff": True},
    "motorola": {"byteorder": ">"},
    "lzma": {"compression": "lzma"},
    "big and motorola": {"bigtiff": True, "byteorder": ">"},
}


def in_eight_bits(pixels: np.ndarray) -> np.ndarray:
    """The definition: v * 255 / 65535, rounded, uint8 [H, W, 3]."""
    scaled = np.rint(pixels.astype(np.float64) * 255 / np.iinfo(pixels.dtype).max).astype(np.uint8)
    return np.broadcast_to(scaled, (*pixels.shape[:2], 3))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_every_layout_keeps_its_numbers(tmp_path, layout, planar):
    pixels = PIXELS if planar == "contig" else PIXELS.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", planarconfig=planar, **LAYOUTS[layout])
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").pixels, PIXELS)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), in_eight_bits(PIXELS))
    np.testing.assert_array_equal(decode_image((tmp_path / "a.tif").read_bytes()), in_eight_bits(PIXELS))  # as shards


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=str)
@pytest.mark.parametrize("kind", ["rgb", "minisblack", "miniswhite"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_alpha_and_grey_of_every_layout_are_read(tmp_path, layout, dtype, kind, planar):
    top = np.iinfo(dtype).max
    pixels = np.random.default_rng(1).integers(0, top + 1, (40, 57, 4 if kind == "rgb" else 2), dtype=dtype)
    pixels[..., -1] = top
    stored = pixels if planar == "contig" else pixels.transpose(2, 0, 1)
    how = {"photometric": kind, "planarconfig": planar, "extrasamples": ["unassalpha"], "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", stored, **how, **LAYOUTS[layout])
    wanted = top - pixels[..., :-1] if kind == "miniswhite" else pixels[..., :-1]
    photo = read_photo(tmp_path / "a.tif")
    np.testing.assert_array_equal(photo.pixels, wanted)
    np.testing.assert_array_equal(photo.alpha, pixels[..., -1:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), in_eight_bits(wanted))


def test_premultiplied_alpha_is_divided_away(tmp_path):
    stored = np.full((40, 57, 4), (10_000, 20_000, 0, 32_768), np.uint16)
    stored[0] = 0  # wholly transparent
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["assocalpha"])
    photo = read_photo(tmp_path / "a.tif")
    assert np.abs(photo.pixels[1:].astype(float) - np.array([10_000, 20_000, 0]) * 65535 / 32768).max() <= 0.5
    shown = read_image(tmp_path / "a.tif")
    assert (shown[0] == 255).all()
    assert np.abs(shown[1:] - (np.array([10_000, 20_000, 0]) / 257 + 127.5)).max() <= 1.5  # laid on white


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("order", "<>")
def test_a_turned_file_is_upright_whether_pillow_opens_it_or_not(tmp_path, turn, order):
    tifffile.imwrite(
        tmp_path / "a.tif",
        PIXELS,
        photometric="rgb",
        bigtiff=True,
        byteorder=order,
        extratags=[(274, 3, 1, turn, True)],
    )
    Image.fromarray(in_eight_bits(PIXELS)).save(tmp_path / "a.png", exif=exif_of(turn))
    upright = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), upright)
    np.testing.assert_array_equal(in_eight_bits(read_photo(tmp_path / "a.tif").pixels), upright)


def exif_of(turn: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = turn
    return exif


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_what_a_big_tiff_says_of_itself_is_kept_without_a_warning(tmp_path, order, suffix):
    make = (271, "s", 0, "Maker", True)
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", bigtiff=True, byteorder=order, extratags=[make])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_photo(tmp_path / f"b{suffix}", read_photo(tmp_path / "a.tif"))
    with Image.open(tmp_path / f"b{suffix}") as image:
        assert image.getexif()[271] == "Maker"


def test_folders_train_on_them(tmp_path):
    for name, layout in LAYOUTS.items():
        planes = PIXELS.transpose(2, 0, 1)
        (tmp_path / "in").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "in" / f"{name}.tif", planes, photometric="rgb", planarconfig="separate", **layout)
    images = FolderSet.from_folder(tmp_path / "in", tmp_path / "cache")
    assert not images.skipped
    assert all(np.array_equal(image, in_eight_bits(PIXELS)) for image in images)


@pytest.mark.parametrize("read", [read_image, read_photo])
def test_a_compression_that_is_missing_is_asked_for_in_words(tmp_path, monkeypatch, read):
    monkeypatch.setattr(tiff_module, "find_spec", lambda name: None)
    tifffile.imwrite(tmp_path / "a.tif", PIXELS.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages.first.tags["Compression"].overwrite(int(tifffile.COMPRESSION.LZW))
    with pytest.raises(UserError, match=r"a\.tif: its compression needs imagecodecs: pip install imagecodecs"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("layout", ["plain", "deflate", "tiled", "strips", "lzma", "big"])
@pytest.mark.parametrize("read", [read_image, read_photo])
def test_half_a_file_is_refused(tmp_path, layout, read):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", **LAYOUTS[layout])
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(UserError, match=r"a\.tif: cannot be read as an image"):
        read(tmp_path / "a.tif")


def test_a_strip_that_holds_more_than_it_says_is_not_unpacked(tmp_path, monkeypatch):
    packed = zlib.compress(bytes(PIXELS.nbytes + 1))
    tifffile.imwrite(
        tmp_path / "a.tif", iter([packed]), shape=PIXELS.shape, dtype=PIXELS.dtype, photometric="rgb", compression=8
    )
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda page: pytest.fail("it was unpacked"))
    with pytest.raises(UserError, match="hold more than they say"):
        read_image(tmp_path / "a.tif")


def test_tiles_far_larger_than_the_image_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", tile=(64, 64))
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        for side in ("TileWidth", "TileLength"):
            file.pages.first.tags[side].overwrite(65_520)
    with pytest.raises(UserError, match="strips or tiles of 12,878,611,200"):
        read_image(tmp_path / "a.tif")


def test_white_is_zero_is_turned(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").pixels, 65535 - PIXELS[..., :1])


def test_lzw_of_other_programs_keeps_its_numbers(tmp_path):
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(tmp_path / "a.tif"), PIXELS[..., ::-1])
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages.first.compression == tifffile.COMPRESSION.LZW
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").pixels, PIXELS)


def test_samples_without_end_are_refused(tmp_path, monkeypatch):
    pixels = np.zeros((40, 57, 3), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", compression="zlib", extrasamples=None)
    monkeypatch.setenv("RGSUD_MAX_MEGAPIXELS", "0.0023")
    assert read_image(tmp_path / "a.tif").shape == (40, 57, 3)
    many = np.zeros((40, 57, 9), np.uint16)
    tifffile.imwrite(tmp_path / "b.tif", many, photometric="rgb", compression="zlib")
    with pytest.raises(UserError, match=r"20,520 values in strips or tiles of 20,520, more than 9,200"):
        read_image(tmp_path / "b.tif")


@pytest.mark.parametrize("layout", ["deflate", "tiled"])
def test_a_file_that_lacks_strips_or_tiles_is_refused(tmp_path, layout):
    how = {"rowsperstrip": 8} | LAYOUTS[layout] if layout == "deflate" else LAYOUTS[layout]
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", **how)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages.first.tags["ImageLength"].overwrite(4000)
    with pytest.raises(UserError, match=r"a\.tif: \d of \d+ strips or tiles are there"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["int32", "uint32", "int16", "float32"])
def test_samples_whose_range_nobody_says_are_refused(tmp_path, kind):
    shape = (40, 40, 3) if kind == "float32" else (40, 40)
    tifffile.imwrite(tmp_path / "a.tif", np.full(shape, 100, kind), photometric="rgb" if len(shape) == 3 else None)
    with pytest.raises(UserError, match=f"samples of type {kind} are not read"):
        read_image(tmp_path / "a.tif")


def test_a_raw_photograph_is_refused_in_words_and_nothing_else_is_said(tmp_path, capfd):
    (tmp_path / "IMG.CR2").write_bytes(b"II*\0" + bytes(20))
    with pytest.raises(UserError, match="raw photographs are not read: develop them"):
        read_image(tmp_path / "IMG.CR2")
    assert capfd.readouterr().err == ""


def test_a_gif_is_refused_with_what_to_do(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.gif")
    with pytest.raises(UserError, match="GIF is not read: write it as PNG"):
        read_image(tmp_path / "a.gif")
