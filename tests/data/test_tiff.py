"""16-bit TIFF as other programs write it: tifffile is the witness."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from rgsud_fast.data import read_photo

PIXELS = np.random.default_rng(0).integers(0, 65536, (40, 57, 3), dtype=np.uint16)
LAYOUTS = {
    "plain": {},
    "deflate": {"compression": "zlib"},
    "predictor": {"compression": "zlib", "predictor": True},
    "tiled": {"tile": (32, 32)},
    "strips": {"rowsperstrip": 7},
    "big": {"bigtiff": True},
    "motorola": {"byteorder": ">"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_every_layout_keeps_its_numbers(tmp_path, layout, planar):
    pixels = PIXELS if planar == "contig" else PIXELS.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", planarconfig=planar, **LAYOUTS[layout])
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").pixels, PIXELS)


def test_white_is_zero_is_turned(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").pixels, 65535 - PIXELS[..., :1])


def test_lzw_of_other_programs_keeps_its_numbers(tmp_path):
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(tmp_path / "a.tif"), PIXELS[..., ::-1])
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages.first.compression == tifffile.COMPRESSION.LZW
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").pixels, PIXELS)
