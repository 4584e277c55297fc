"""Image files of every kind come in as upright 8-bit RGB, and bad ones name themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from rgsud_fast.data import list_images, read_image, to_tensor, write_image
from rgsud_fast.errors import UserError


@pytest.fixture
def photo() -> np.ndarray:
    """uint8 [33, 47, 3]; random, so that a wrong orientation or channel order shows."""
    return np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".PNG"])
def test_lossless_formats_come_back_in_the_same_bytes(tmp_path, photo, suffix):
    path = tmp_path / f"photo{suffix}"
    write_image(path, photo)
    assert np.array_equal(read_image(path), photo)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_formats_come_back_close(tmp_path, suffix):
    smooth = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (64, 48, 3))
    write_image(tmp_path / f"photo{suffix}", smooth)
    assert np.abs(read_image(tmp_path / f"photo{suffix}").astype(int) - smooth).max() <= 6


def test_grey_is_repeated_over_the_channels(tmp_path, photo):
    Image.fromarray(photo[:, :, 0]).save(tmp_path / "grey.png")
    assert np.array_equal(read_image(tmp_path / "grey.png"), np.repeat(photo[:, :, :1], 3, axis=2))


def test_palette_is_looked_up(tmp_path):
    indices = np.tile(np.array([[0, 1], [1, 2]], np.uint8), (16, 16))
    image = Image.frombytes("P", (32, 32), indices.tobytes())
    colours = np.array([[10, 20, 30], [200, 0, 0], [0, 0, 255]], np.uint8)
    image.putpalette(colours.tobytes())
    image.save(tmp_path / "palette.png")
    assert np.array_equal(read_image(tmp_path / "palette.png"), colours[indices])


def test_transparency_is_laid_on_white(tmp_path, photo):
    alpha = np.full(photo.shape[:2], 255, np.uint8)
    alpha[:10] = 0
    Image.fromarray(np.dstack([photo, alpha])).save(tmp_path / "alpha.png")
    shown = read_image(tmp_path / "alpha.png")
    assert (shown[:10] == 255).all()
    assert np.array_equal(shown[10:], photo[10:])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, photo, suffix):
    deep = photo[:, :, 0].astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / f"deep{suffix}")
    assert np.array_equal(read_image(tmp_path / f"deep{suffix}"), np.repeat(photo[:, :, :1], 3, axis=2))


def test_a_float_image_is_read_on_the_scale_of_zero_to_one(tmp_path, photo):
    Image.fromarray(photo[:, :, 0].astype(np.float32) / 255).save(tmp_path / "float.tif")
    assert np.array_equal(read_image(tmp_path / "float.tif")[:, :, 1], photo[:, :, 0])
    Image.fromarray(photo[:, :, 0].astype(np.float32)).save(tmp_path / "hdr.tif")
    with pytest.raises(UserError, match=r"hdr\.tif.*expected 0 to 1"):
        read_image(tmp_path / "hdr.tif")


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("RGB", (40, 40), (200, 30, 90)).convert("CMYK").save(tmp_path / "print.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "print.jpg").astype(int) - [200, 30, 90]).max() <= 4


def test_the_cameras_rotation_is_applied(tmp_path, photo):
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the scene is the right side of the stored image
    Image.fromarray(photo).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "turned.png"), np.rot90(photo, -1))


def test_a_tensor_is_clamped_rounded_and_comes_back(tmp_path, photo):
    tensor = to_tensor(photo)
    assert tensor.dtype == torch.float32
    assert tensor.shape == (3, 33, 47)
    write_image(tmp_path / "photo.png", tensor)
    assert np.array_equal(read_image(tmp_path / "photo.png"), photo)
    write_image(tmp_path / "bright.png", torch.full((3, 32, 32), 1.7))
    assert (read_image(tmp_path / "bright.png") == 255).all()


def test_an_image_of_the_wrong_layout_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"float \[3, H, W\] or uint8 \[H, W, 3\]"):
        write_image(tmp_path / "x.png", np.zeros((40, 40), np.uint8))


def test_an_unknown_suffix_is_refused_on_writing(tmp_path, photo):
    with pytest.raises(UserError, match=r"photo\.xyz"):
        write_image(tmp_path / "photo.xyz", photo)
    assert not list(tmp_path.iterdir())


def test_unreadable_files_are_named(tmp_path, photo):
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(UserError, match=r"text\.png"):
        read_image(tmp_path / "text.png")
    write_image(tmp_path / "whole.png", photo)
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:900])
    with pytest.raises(UserError, match=r"half\.png"):
        read_image(tmp_path / "half.png")
    with pytest.raises(UserError, match=r"absent\.png: no such file"):
        read_image(tmp_path / "absent.png")


def test_an_image_below_32_pixels_is_named_with_its_size(tmp_path, photo):
    write_image(tmp_path / "small.png", photo[:31])
    with pytest.raises(UserError, match=r"small\.png: 47 x 31 pixels, at least 32"):
        read_image(tmp_path / "small.png")
    assert read_image(tmp_path / "small.png", smallest=1).shape == (31, 47, 3)


def test_a_folder_is_listed_with_its_subfolders_in_natural_order(tmp_path, photo):
    for name in ("10.png", "2.png", "night/1.JPG", ".hidden/3.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    listed = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert listed == ["2.png", "10.png", "night/1.JPG"]


def test_rainy_and_clean_names_of_one_dataset_sort_alike(tmp_path):
    for number in (1, 2, 10, 11, 100):
        for name in (f"rainy/{number}x2.png", f"clean/{number}.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
    rainy = [path.stem.removesuffix("x2") for path in list_images(tmp_path / "rainy")]
    assert rainy == [path.stem for path in list_images(tmp_path / "clean")]


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        list_images(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no image"):
        list_images(tmp_path / "empty")
