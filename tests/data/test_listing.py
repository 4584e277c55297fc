"""A folder's images are found wherever they lie in it, and what is left out is counted."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from rgsud_fast.cli import main
from rgsud_fast.data import FolderSet, list_images, read_image, write_image
from rgsud_fast.data import listing as module
from rgsud_fast.data.image_files import FORMATS, READABLE
from rgsud_fast.data.listing import look_through
from rgsud_fast.errors import UserError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names(folder, **options):
    return [path.relative_to(folder).as_posix() for path in look_through(folder, **options).images]


def test_what_is_passed_over_is_counted_by_ending(tmp_path):
    touch(tmp_path, "a.png", "1.MOV", "b/2.mov", "c.gif", "Thumbs.db", ".DS_Store", "list.txt", "a.json", "README")
    assert look_through(tmp_path).passed_over == "2 .mov, 1 .gif"
    with pytest.warns(UserWarning, match=r": passed over: 2 \.mov, 1 \.gif$"):
        assert len(list_images(tmp_path)) == 1


def test_nothing_is_said_of_a_folder_of_images_and_texts(tmp_path, recwarn):
    list_images(touch(tmp_path, "a.png", "list.txt"))
    assert not recwarn.list


def test_a_folder_without_images_tells_what_it_has(tmp_path):
    with pytest.raises(UserError, match=r"no image in this folder.*; passed over: 1 \.cr2"):
        look_through(touch(tmp_path, "a.cr2"))


def test_a_format_that_an_extra_reads_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "READABLE", READABLE - {".heic", ".avif"})
    told = look_through(touch(tmp_path, "a.png", "b.heic", "c.heic", "d.avif")).passed_over
    assert told.startswith("2 .heic, 1 .avif (HEIC is read with the extra heif") and "Pillow 11.3" in told


def test_linked_folders_are_followed_and_each_real_one_once(tmp_path):
    touch(tmp_path, "elsewhere/1.png", "sets/mine/m.png", "sets/z/2.png")
    sets = tmp_path / "sets"
    for link, target in {
        "more": "../elsewhere",
        "again": "../elsewhere",
        "a": "z",
        "loop": ".",
        "up": "..",
        "x": "x",
    }.items():
        (sets / link).symlink_to(target)
    assert names(sets) == ["again/1.png", "mine/m.png", "z/2.png"]


def test_folders_of_storage_and_archivers_are_left_out(tmp_path):
    touch(
        tmp_path, "p.jpg", *(f"{name}/p.jpg" for name in ("@eaDir", "#recycle", "__MACOSX", ".thumbnails", "a/@EADIR"))
    )
    assert look_through(tmp_path) == ([tmp_path / "p.jpg"], "")


def test_a_closed_folder_is_counted_and_a_closed_root_refused(tmp_path, monkeypatch):
    touch(tmp_path, "a.png", "closed/b.png")
    scan = os.scandir

    def scandir(folder):
        if os.path.basename(folder) == "closed":
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert look_through(tmp_path).passed_over == "1 folder that cannot be entered"
    with pytest.raises(UserError, match="closed: cannot be entered"):
        look_through(tmp_path / "closed")


def test_links_to_nothing_are_counted_or_listed(tmp_path):
    touch(tmp_path, "a.png")
    for name in ("b.png", "c.jpg", "d.txt"):
        (tmp_path / name).symlink_to("gone")
    assert look_through(tmp_path).passed_over == "2 links that lead nowhere"
    assert names(tmp_path, dangling=True) == ["a.png", "b.png", "c.jpg"]


@pytest.mark.parametrize("ending, kind", [("jfif", "JPEG"), ("jpe", "JPEG"), ("avif", "AVIF"), ("heic", "HEIF")])
def test_these_endings_are_read(tmp_path, ending, kind):
    if kind not in FORMATS:
        pytest.skip(f"nothing here reads {kind}")
    Image.new("RGB", (64, 48), (200, 30, 90)).save(tmp_path / f"a.{ending}", kind)
    (path,) = list_images(tmp_path)
    assert np.abs(read_image(path).astype(int) - [200, 30, 90]).max() <= 6


def test_jfif_is_written_as_jpeg_and_avif_is_not(tmp_path):
    write_image(tmp_path / "a.jfif", np.zeros((8, 8, 3), np.uint8))
    assert Image.open(tmp_path / "a.jfif").format == "JPEG"
    with pytest.raises(UserError, match="cannot write this format"):
        write_image(tmp_path / "a.avif", np.zeros((8, 8, 3), np.uint8))


def test_a_set_says_what_lies_beside_its_images(photos, tmp_path):
    touch(photos, "clip.mov")
    for _ in range(2):  # decoded, and from its cache
        assert FolderSet.from_folder(photos, tmp_path / "cache").passed_over == "1 .mov"


def test_the_command_line_says_it_in_one_line(photos, capsys, tmp_path):
    touch(photos, "clip.mov")
    main(["fit-niqe", str(photos), str(tmp_path / "niqe.safetensors")])
    assert f"rgsud-fast: {photos}: passed over: 1 .mov" in capsys.readouterr().err.splitlines()
