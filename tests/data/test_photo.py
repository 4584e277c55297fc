"""From file to file: 16 bits, alpha, grey, EXIF, profile and resolution stay; other programs are the witnesses."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from PIL import ExifTags, Image, ImageCms
from torch import nn

from rgsud_fast.data import Photo, read_image, read_photo, write_photo
from rgsud_fast.errors import UserError
from rgsud_fast.inference.derain import derain

cv2 = pytest.importorskip("cv2")
SIZE = (40, 57)


class Same(nn.Module):
    """A derainer that finds no rain, so that what is written can be compared with what was read."""

    def forward(self, image):
        return image


def noise(channels: int, dtype=np.uint16) -> np.ndarray:
    return np.random.default_rng(channels).integers(0, np.iinfo(dtype).max + 1, (*SIZE, channels), dtype=dtype)


def by_opencv(path) -> np.ndarray:
    """The file's numbers as OpenCV reads them, [H, W, C], RGB(A)."""
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    values = values[..., None] if values.ndim == 2 else values
    return values[..., [2, 1, 0, 3][: values.shape[2]]] if values.shape[2] > 2 else values


@pytest.mark.parametrize("channels", [1, 3, 4], ids=["grey", "RGB", "RGBA"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_read_as_another_program_wrote_them(tmp_path, suffix, channels):
    wanted = noise(channels)
    stored = wanted[..., [2, 1, 0, 3][:channels]] if channels > 1 else wanted
    assert cv2.imwrite(str(tmp_path / f"deep{suffix}"), np.ascontiguousarray(stored))
    photo = read_photo(tmp_path / f"deep{suffix}")
    assert photo.pixels.dtype == np.uint16
    assert np.array_equal(photo.pixels, wanted[..., :3])
    assert (photo.alpha is None) == (channels != 4)
    assert channels != 4 or np.array_equal(photo.alpha, wanted[..., 3:])


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_of_either_byte_order_is_read(tmp_path, compression, byteorder):
    for channels in (1, 3):
        wanted = noise(channels)
        tifffile.imwrite(
            tmp_path / "deep.tif",
            wanted.squeeze(),
            compression=compression,
            byteorder=byteorder,
            photometric="rgb" if channels == 3 else "minisblack",
        )
        assert np.array_equal(read_photo(tmp_path / "deep.tif").pixels, wanted)


@pytest.mark.parametrize("channels", [1, 2, 3, 4], ids=["grey", "grey and alpha", "RGB", "RGBA"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_in_are_sixteen_bits_out_to_the_last(tmp_path, suffix, channels):
    values = noise(channels)
    colours = channels - (channels in (2, 4))
    alpha = values[..., colours:] if colours < channels else None
    write_photo(tmp_path / f"in{suffix}", Photo(values[..., :colours], alpha))
    if (suffix, channels) != (".tif", 2):  # Pillow and OpenCV read no such TIFF
        derain(Same(), tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", tile=32, overlap=8)
    for name in ("in", "out") if channels != 2 else ():
        assert np.array_equal(by_opencv(tmp_path / f"{name}{suffix}"), values)
    if suffix == ".tif":
        assert np.array_equal(tifffile.imread(tmp_path / "in.tif").reshape(values.shape), values)
    elif channels == 2:
        again = read_photo(tmp_path / "out.png")
        assert np.array_equal(np.dstack([again.pixels, again.alpha]), values)
        with Image.open(tmp_path / "out.png") as shown:
            assert np.abs(np.array(shown)[..., [0, 3]].astype(int) - values // 256).max() <= 1


def test_a_large_png_is_one_image_of_many_strips(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (200, 33, 3), dtype=np.uint16)
    write_photo(tmp_path / "tall.png", Photo(values))
    assert np.array_equal(by_opencv(tmp_path / "tall.png"), values)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_passes_through_and_the_colours_under_it_are_derained(tmp_path, suffix):
    class Darker(nn.Module):
        def forward(self, image):
            return image / 2

    values = noise(4, np.uint8)
    Image.fromarray(values).save(tmp_path / "in.png")
    derain(Darker(), tmp_path / "in.png", tmp_path / f"out{suffix}")
    with Image.open(tmp_path / f"out{suffix}") as opened:
        found = np.array(opened.convert("RGBA")).astype(int)
    assert np.array_equal(found[..., 3], values[..., 3])
    if suffix != ".webp":  # lossy in its colours
        assert np.array_equal(found[..., :3], np.rint(values[..., :3].astype(np.float32) / 2))


def test_where_there_is_no_alpha_the_photograph_is_laid_on_white(tmp_path):
    Image.new("RGBA", (40, 40), (10, 20, 30, 0)).save(tmp_path / "in.png")
    derain(Same(), tmp_path / "in.png", tmp_path / "out.jpg")
    assert (read_image(tmp_path / "out.jpg") >= 254).all()


def test_what_a_format_cannot_hold_is_rounded_and_not_cut(tmp_path):
    write_photo(tmp_path / "in.png", Photo(np.full((32, 32, 3), 0x01FF, np.uint16)))
    derain(Same(), tmp_path / "in.png", tmp_path / "out.bmp")
    assert (read_image(tmp_path / "out.bmp") == 2).all()


def test_grey_stays_grey(tmp_path):
    Image.fromarray(noise(1, np.uint8)[..., 0]).save(tmp_path / "in.png")
    derain(Same(), tmp_path / "in.png", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as opened:
        assert opened.mode == "L"
        assert np.array_equal(np.array(opened), noise(1, np.uint8)[..., 0])


def test_a_tensor_of_a_deep_file_has_its_depth(tmp_path):
    values = noise(3)
    write_photo(tmp_path / "in.png", Photo(values))
    expected = torch.from_numpy(values.astype(np.float32).transpose(2, 0, 1)) / 65535
    torch.testing.assert_close(derain(Same(), tmp_path / "in.png"), expected, rtol=0, atol=0)


def described(orientation: int) -> Image.Exif:
    """EXIF data of a camera that was held in some way."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Model] = "Box camera"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FNumber] = 8.0
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] = SIZE[1]
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
def test_the_cameras_rotation_is_applied_once_and_not_said_again(tmp_path, suffix, orientation):
    smooth = np.linspace(0, 200, SIZE[0] * SIZE[1], dtype=np.uint8).reshape(SIZE)
    stored = np.stack([smooth, smooth // 2, 255 - smooth], axis=2)
    lossless = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(stored).save(tmp_path / f"in{suffix}", exif=described(orientation).tobytes(), **lossless)
    upright = read_image(tmp_path / f"in{suffix}")
    derain(Same(), tmp_path / f"in{suffix}", tmp_path / "once.png")
    derain(Same(), tmp_path / "once.png", tmp_path / "twice.png")
    for name in ("once.png", "twice.png"):
        with Image.open(tmp_path / name) as opened:
            assert np.array_equal(np.array(opened), upright)
            exif = opened.getexif()
        assert exif.get(ExifTags.Base.Orientation, 1) == 1
        assert exif[ExifTags.Base.Model] == "Box camera"
        assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FNumber] == 8
        assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] == upright.shape[1]
        assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8 bits", "16 bits"])
def test_profile_resolution_and_exif_are_kept(tmp_path, dtype, suffix):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = Photo(noise(3, dtype), None, described(1).tobytes(), profile, (240.0, 240.0))
    write_photo(tmp_path / "in.png", photo)
    derain(Same(), tmp_path / "in.png", tmp_path / f"out{suffix}")
    with Image.open(tmp_path / f"out{suffix}") as opened:
        assert opened.info["icc_profile"] == profile
        assert suffix == ".webp" or opened.info["dpi"] == pytest.approx((240, 240), abs=0.02)
        exif = opened.getexif()
        assert exif[ExifTags.Base.Model] == "Box camera"
        if (dtype, suffix) != (np.uint16, ".tif"):
            assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FNumber] == 8


def test_how_one_file_is_stored_is_not_said_of_another(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "Box camera"
    Image.fromarray(noise(3, np.uint8)).save(tmp_path / "in.tif", compression="tiff_lzw", exif=exif)
    derain(Same(), tmp_path / "in.tif", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as opened:
        assert dict(opened.getexif()) == {ExifTags.Base.Model: "Box camera"}


def test_a_profile_of_inks_is_not_given_to_colours(tmp_path):
    image = Image.new("RGB", (40, 40), (200, 30, 90)).convert("CMYK")
    image.save(tmp_path / "in.jpg", icc_profile=b"of inks")
    photo = read_photo(tmp_path / "in.jpg")
    assert photo.icc is None
    assert photo.pixels.shape == (40, 40, 3)


@pytest.mark.parametrize("size", [(1, 50), (50, 1), (1, 1)], ids=str)
def test_an_image_one_pixel_thin_is_derained(tmp_path, size):
    from rgsud_fast.networks import NAFNet

    Image.fromarray(np.full((*size, 3), 99, np.uint8)).save(tmp_path / "thin.png")
    (written,) = derain(NAFNet(4, [1], 1, [1]), tmp_path / "thin.png", tmp_path / "out")
    with Image.open(written) as opened:
        assert opened.size == size[::-1]


def test_a_damaged_deep_file_is_named(tmp_path):
    write_photo(tmp_path / "whole.png", Photo(noise(3)))
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    with pytest.raises(UserError, match=r"half\.png: cannot be read as an image"):
        read_photo(tmp_path / "half.png")
