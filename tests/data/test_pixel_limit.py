"""The limit on pixels: looked at before decoding, for every format and reader, raised or lowered by one variable."""

from __future__ import annotations

import tarfile

import numpy as np
import pytest
import tifffile
from PIL import Image

from rgsud_fast.data import FolderSet, read_image, read_photo
from rgsud_fast.data.image_files import READABLE
from rgsud_fast.data.pixel_limit import VARIABLE, most_pixels
from rgsud_fast.data.shard_set import ShardSet
from rgsud_fast.demo_page.uploads import Refused
from rgsud_fast.demo_page.uploads import read_photo as read_upload
from rgsud_fast.errors import UserError

y, x = np.mgrid[:40, :57]
SMOOTH = np.stack([x * 4, y * 6, x + y], axis=2).astype(np.uint8)
DEEP = SMOOTH.astype(np.uint16) * 257


def save_deep_png(path):
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(path), DEEP[..., ::-1])


WRITERS = {
    "a.png": lambda path: Image.fromarray(SMOOTH).save(path),
    "a.jpg": lambda path: Image.fromarray(SMOOTH).save(path, quality=100),
    "a.bmp": lambda path: Image.fromarray(SMOOTH).save(path),
    "a.webp": lambda path: Image.fromarray(SMOOTH).save(path, lossless=True),
    "deep.png": save_deep_png,
    "plain.tif": lambda path: Image.fromarray(SMOOTH).save(path),
    "packed.tif": lambda path: Image.fromarray(SMOOTH).save(path, compression="tiff_lzw"),
    "deep.tif": lambda path: tifffile.imwrite(path, DEEP, photometric="rgb"),
    "big.tif": lambda path: tifffile.imwrite(path, SMOOTH, photometric="rgb", bigtiff=True, byteorder=">"),
    "a.avif": lambda path: Image.fromarray(SMOOTH).save(path, quality=100),
    "a.heic": lambda path: Image.fromarray(SMOOTH).save(path, format="HEIF", quality=100),
}


@pytest.fixture(params=WRITERS)
def file(tmp_path, request):
    path = tmp_path / "in" / request.param
    if path.suffix not in READABLE:
        pytest.skip(f"{path.suffix} is not read here")
    path.parent.mkdir()
    WRITERS[request.param](path)
    return path


@pytest.mark.parametrize("read", [read_image, read_photo])
def test_more_than_the_variable_allows_is_refused_with_the_way_to_allow_it(file, monkeypatch, read):
    monkeypatch.setenv(VARIABLE, "0.001")
    wanted = f"{file.name}: 57 x 40 pixels, more than 1,000; cut or shrink it, or allow it with {VARIABLE}=1"
    with pytest.raises(UserError) as refusal:
        read(file)
    assert str(refusal.value).endswith(wanted)


@pytest.mark.parametrize("read", [read_image, read_photo])
@pytest.mark.parametrize("pillows", [2000, 500], ids=["Pillow warns", "Pillow refuses"])
def test_the_variable_allows_what_pillow_does_not(file, monkeypatch, recwarn, read, pillows):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows)
    if pillows == 500:
        with pytest.raises(UserError, match=f"57 x 40 pixels, more than 1,000; .*{VARIABLE}=1"):
            read(file)
    monkeypatch.setenv(VARIABLE, "0.003")
    image = read(file)
    pixels = image if isinstance(image, np.ndarray) else image.pixels
    assert np.abs(pixels.astype(float) * 255 / np.iinfo(pixels.dtype).max - SMOOTH).max() <= 12
    assert not recwarn.list
    assert pillows == Image.MAX_IMAGE_PIXELS  # for whatever else the process opens


def test_a_folder_is_read_again_under_another_limit(file, monkeypatch, tmp_path):
    def opened() -> FolderSet:
        return FolderSet.from_folder(file.parent, tmp_path / "cache")

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # training takes no more; derain takes twice as many
    Image.fromarray(SMOOTH[:32, :31].repeat(2, 1)[:, :32]).save(file.parent / "small.png")  # 1,024 pixels
    with pytest.raises(UserError, match=f"none of its 2 images can be used.*{VARIABLE}=1"):
        opened()
    monkeypatch.setenv(VARIABLE, "0.002")
    assert opened().names == ["small.png"]
    monkeypatch.setenv(VARIABLE, "0.003")
    assert len(opened()) == 2
    monkeypatch.setenv(VARIABLE, "0.002")
    assert opened().names == ["small.png"]


def test_shards_are_read_again_under_another_limit(file, monkeypatch, tmp_path):
    pytest.importorskip("webdataset")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(file, file.name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match=f"more than 1,000; .*{VARIABLE}=1"):
        ShardSet.open(str(tmp_path / "a.tar"), tmp_path, 0)
    monkeypatch.setenv(VARIABLE, "1")
    assert ShardSet.open(str(tmp_path / "a.tar"), tmp_path, 0)[0].shape == (40, 57, 3)


def test_the_page_takes_no_more_either(monkeypatch, tmp_path):
    Image.fromarray(SMOOTH).save(tmp_path / "a.png")
    assert read_upload(tmp_path / "a.png").shape == SMOOTH.shape
    monkeypatch.setenv(VARIABLE, "0.001")
    with pytest.raises(Refused, match=r"This image has 57 x 40 pixels; at most 0\.001 megapixels are taken"):
        read_upload(tmp_path / "a.png")


@pytest.mark.parametrize("text", ["much", "0", "-3", "nan", "1,5"])
def test_a_limit_that_is_no_number_is_told(monkeypatch, tmp_path, text):
    Image.fromarray(SMOOTH).save(tmp_path / "a.png")
    monkeypatch.setenv(VARIABLE, text)
    for read in (read_image, read_photo, lambda path: FolderSet.from_folder(path.parent, tmp_path / "cache")):
        with pytest.raises(UserError, match=f"{VARIABLE} must be a positive number of megapixels, got '{text}'"):
            read(tmp_path / "a.png")


def test_pillows_own_limit_holds_where_the_variable_is_not_set(monkeypatch):
    for text in (None, "", " "):
        monkeypatch.delenv(VARIABLE, raising=False) if text is None else monkeypatch.setenv(VARIABLE, text)
        assert most_pixels() == 2 * Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert most_pixels() == float("inf")
