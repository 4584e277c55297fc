"""Every input has an output of its own, and of a folder every image is by itself."""

from __future__ import annotations

import errno
import os
import struct
import warnings

import numpy as np
import pytest
import torch
from darker import Darker
from PIL import Image, TiffImagePlugin
from torch import nn

from rgsud_fast.data.image_files import check_largest
from rgsud_fast.errors import UserError
from rgsud_fast.inference.derain import derain
from rgsud_fast.inference.left_out import LeftOut
from rgsud_fast.inference.outputs import flat_names, png_names


def save(path, height=8, width=9, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 200, np.uint8)).save(path, **options)
    return path


@pytest.mark.parametrize(
    "names, expected",
    [
        (["a.jpg", "b/a.jpg"], ["a.png", "b/a.png"]),
        (["a.jpg", "a.png"], ["a.jpg.png", "a.png.png"]),
        (["a.jpg", "a.png", "a.jpg.png"], ["a.jpg.png", "a.png.png", "a.jpg.png.png"]),
        (["1.png", "1.png", "1_2.png"], ["1.png", "1_3.png", "1_2.png"]),
        (["A.jpg", "a.bmp"], ["A.jpg.png", "a.bmp.png"]),
        (["A.jpg", "a.JPG"], ["A.png", "a_2.png"]),
        (["\u00e9.jpg", "e\u0301.jpg"], ["\u00e9.png", "e\u0301_2.png"]),
        (["a.jpg", "a.png/b.jpg"], ["a.jpg.png", "a.png/b.png"]),
    ],
)
def test_names_never_meet(names, expected):
    assert png_names(names) == expected


def test_flat_names_never_meet():
    assert flat_names(["a/b.jpg", "a_b.jpg", "A/B.png"]) == ["a_b.jpg.png", "a_b.jpg_2.png", "A_B.png.png"]


def test_equal_names_of_several_folders_are_all_written(tmp_path):
    inputs = [save(tmp_path / "x" / "1.png"), save(tmp_path / "y" / "1.png")]
    written = derain(Darker(), inputs, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.png", "1_2.png"]
    assert len(set(written)) == 2


def test_a_batch_and_a_file_that_would_meet_are_refused(tmp_path):
    file = save(tmp_path / "00000_001.png")
    with pytest.raises(UserError, match="two images would be written to"):
        derain(Darker(), [torch.rand(2, 3, 8, 8), file], tmp_path / "out")


def test_what_cannot_be_written_is_left_out_and_counted(tmp_path):
    for name in "abz":
        save(tmp_path / "in" / f"{name}.jpg")
    (tmp_path / "out" / "b.png").mkdir(parents=True)  # a folder where the image should go
    with pytest.raises(UserError, match=r"2 images are written, 1 are left out: .*b\.png"):
        derain(Darker(), tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out" / "z.png").is_file()


def test_a_full_disk_ends_the_folder(tmp_path, monkeypatch):
    for name in "ab":
        save(tmp_path / "in" / f"{name}.jpg")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        derain(Darker(), tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png", ".tif"])
def test_metadata_that_does_not_fit_is_left_away(tmp_path, suffix):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[37724], info.tagtype[37724] = b"x" * 200_000, 7  # Photoshop's layers
    save(tmp_path / "a.tif", tiffinfo=info)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        (written,) = derain(Darker(), tmp_path / "a.tif", tmp_path / f"o{suffix}")
    if suffix == ".jpg":
        assert ["left away" in str(one.message) for one in told] == [True]
    assert Image.open(written).size == (9, 8)


@pytest.mark.parametrize("resolution", [(0, 0), (1, 0), (0xFFFFFFFF, 1), (0, 1)])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp"])
def test_odd_resolutions_are_left_away(tmp_path, resolution, suffix):
    source = save(tmp_path / "a.tif", dpi=(72, 72))
    source.write_bytes(source.read_bytes().replace(struct.pack("<II", 72, 1), struct.pack("<II", *resolution)))
    (written,) = derain(Darker(), source, tmp_path / f"o{suffix}")
    assert Image.open(written).size == (9, 8)


def test_a_longest_side_is_known_before_the_work(tmp_path):
    class Never(Darker):
        def forward(self, image):
            raise AssertionError("computed")

    with pytest.raises(UserError, match=r"17000 x 1 pixels, webp holds 16383"):
        derain(Never(), save(tmp_path / "a.png", 1, 17000), tmp_path / "o.webp")


def test_an_unknown_ending_is_told_and_an_existing_folder_is_fine(tmp_path):
    source = save(tmp_path / "a.png")
    with pytest.raises(
        UserError, match=r"o\.xyz: cannot write this format; end the name in one of bmp, jfif, jpe, jpeg"
    ):
        derain(Darker(), source, tmp_path / "o.xyz")
    (tmp_path / "o.xyz").mkdir()
    assert derain(Darker(), source, tmp_path / "o.xyz") == [tmp_path / "o.xyz" / "a.png"]


@pytest.mark.parametrize("odd", [255.0, -1.0, float("nan"), float("inf")])
def test_floats_beyond_their_range_are_refused(odd):
    image = torch.rand(3, 8, 8)
    image[0, 0, 0] = odd
    with pytest.raises(ValueError, match=r"floats in \[0, 1\], got"):
        derain(Darker(), image)


def test_an_output_inside_the_input_is_no_input_of_the_next_run(tmp_path):
    save(tmp_path / "a.jpg")
    for _ in range(2):
        assert derain(Darker(), tmp_path, tmp_path / "out") == [tmp_path / "out" / "a.png"]


def test_a_run_that_was_interrupted_goes_on_where_it_stopped(tmp_path):
    for name in ("a.png", "b.png", "sub/c.png"):
        save(tmp_path / "in" / name)
    derain(Darker(), tmp_path / "in", tmp_path / "out")
    (tmp_path / "out" / "b.png").unlink()
    kept = (tmp_path / "out" / "a.png").stat().st_mtime_ns
    with pytest.warns(UserWarning, match="2 results are there already and are skipped"):
        written = derain(Darker(), tmp_path / "in", tmp_path / "out", skip_existing=True)
    assert written == [tmp_path / "out" / "b.png"]
    assert (tmp_path / "out" / "a.png").stat().st_mtime_ns == kept


def test_names_and_formats_of_a_folder_are_the_users(tmp_path):
    save(tmp_path / "in" / "a.jpg")
    save(tmp_path / "in" / "sub" / "a.png")
    written = derain(Darker(), tmp_path / "in", tmp_path / "out", extension="webp", suffix="_derained")
    assert written == [tmp_path / "out" / "a_derained.webp", tmp_path / "out" / "sub" / "a_derained.webp"]
    assert np.array(Image.open(written[1])).tolist() == np.full((8, 9, 3), 100).tolist()  # lossless
    for wrong in ({"extension": "xyz"}, {"suffix": "/../x"}, {"extension": ""}):
        with pytest.raises(UserError, match=r"cannot write this format|cannot lead to a folder"):
            derain(Darker(), tmp_path / "in", tmp_path / "out", **wrong)


@pytest.mark.parametrize("strength, expected", [(0, 0.8), (0.5, 0.6), (1.0, 0.4), (1.5, 0.2)])
def test_strength_is_the_share_of_the_change(strength, expected):
    derained = derain(Darker(), torch.full((3, 8, 8), 0.8), strength=strength)
    torch.testing.assert_close(derained, torch.full((3, 8, 8), expected))


@pytest.mark.parametrize("strength", [-0.1, 1.6, float("nan")])
def test_a_strength_beyond_its_range_is_refused(strength):
    with pytest.raises(UserError, match=r"must be from 0, which changes nothing, to 1\.5"):
        derain(Darker(), torch.zeros(3, 8, 8), strength=strength)


def test_results_inside_the_input_are_no_inputs_and_the_users_images_there_are(tmp_path):
    save(tmp_path / "photos" / "a.jpg")
    for _ in range(2):
        assert derain(Darker(), tmp_path / "photos", tmp_path / "photos" / "out") == [tmp_path / "photos/out/a.png"]
    originals = [save(tmp_path / "photos" / "2024" / name) for name in ("a.png", "b.png")]
    before = [path.read_bytes() for path in originals]
    with pytest.raises(UserError, match="is one of the inputs and would be overwritten"):
        derain(Darker(), tmp_path / "photos", tmp_path / "photos" / "2024")
    assert [path.read_bytes() for path in originals] == before


@pytest.mark.parametrize("name", ["o.jfif", "o.jpe", "o.jpg"])
def test_every_ending_of_jpeg_keeps_exif_and_has_its_largest_side(tmp_path, name):
    exif = Image.Exif()
    exif[271] = "maker"
    derain(Darker(), save(tmp_path / "a.jpg", exif=exif), tmp_path / name)
    assert Image.open(tmp_path / name).getexif()[271] == "maker"
    with pytest.raises(UserError, match=r"65500|65,500"):
        check_largest(tmp_path / name, 70_000, 40)


def test_what_a_format_never_holds_is_told_too(tmp_path):
    exif = Image.Exif()
    exif[271] = "maker"
    with pytest.warns(UserWarning, match=r"o\.bmp: EXIF data, .* is left away"):
        derain(Darker(), save(tmp_path / "a.jpg", exif=exif), tmp_path / "o.bmp")


def test_results_are_not_mixed_with_the_photographs(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (40, 40)).save(folder / "a.jpg")
    with pytest.raises(UserError, match="is the folder of the photographs"):
        derain(nn.Identity(), folder, folder)
    assert [path.name for path in folder.iterdir()] == ["a.jpg"]
    derain(nn.Identity(), folder, folder / "derained")
    assert (folder / "derained" / "a.png").is_file()


def test_what_is_left_out_has_its_name_once():
    left_out = LeftOut()
    for text in ("9 x 9 pixels: too small", "folder/b.png is no image"):
        with left_out.unless(False, "b.png"):
            raise UserError(text)
    assert left_out.reasons == ["b.png: 9 x 9 pixels: too small", "folder/b.png is no image"]
