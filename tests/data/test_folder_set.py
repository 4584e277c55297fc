"""The decoded-image cache: the same pixels, decoded once, never stale, never half-written."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from rgsud_fast.data import FolderSet, write_image
from rgsud_fast.data import folder_set as cache
from rgsud_fast.errors import UserError
from rgsud_fast.system import files
from rgsud_fast.system.files import replacing


@pytest.fixture
def photos() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (32 + i, 40 - i, 3), dtype=np.uint8) for i in range(5)]


@pytest.fixture
def folder(tmp_path, photos):
    for i, photo in enumerate(photos):
        write_image(tmp_path / "photos" / f"sub{i % 2}" / f"{i}.png", photo)
    return tmp_path / "photos"


@pytest.fixture
def decoded(monkeypatch):
    """The paths decoded so far."""
    paths = []
    decode = cache.decode_image
    monkeypatch.setattr(cache, "decode_image", lambda path, largest: (paths.append(path), decode(path))[1])
    return paths


def test_images_come_back_in_the_same_bytes(folder, photos, tmp_path):
    images = FolderSet.from_folder(folder, tmp_path / "cache")
    assert images.names == ["sub0/0.png", "sub0/2.png", "sub0/4.png", "sub1/1.png", "sub1/3.png"]
    assert len(images) == 5
    for image, name, size in zip(images, images.names, images.sizes, strict=True):
        photo = photos[int(name[5])]
        assert size == photo.shape[:2]
        assert np.array_equal(image, photo)
    assert np.array_equal(images[-1], photos[3])
    with pytest.raises(IndexError):
        images[5]


def test_a_cached_image_cannot_be_written_to(folder, tmp_path):
    with pytest.raises(ValueError, match="read-only"):
        FolderSet.from_folder(folder, tmp_path / "cache")[0][0, 0] = 0


def test_a_second_run_decodes_nothing(folder, tmp_path, decoded):
    first = FolderSet.from_folder(folder, tmp_path / "cache")
    assert len(decoded) == 5
    second = FolderSet.from_folder(folder, tmp_path / "cache")
    assert len(decoded) == 5
    assert (second.names, second.sizes, second.digests) == (first.names, first.sizes, first.digests)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("change", ["added", "removed", "rewritten"])
def test_a_changed_folder_is_decoded_again_and_its_old_cache_removed(folder, photos, tmp_path, change):
    before = FolderSet.from_folder(folder, tmp_path / "cache")
    path = folder / "sub0" / "2.png"
    if change == "removed":
        path.unlink()
    else:
        path = path if change == "rewritten" else folder / "new.png"
        write_image(path, 255 - photos[2])
        os.utime(path, ns=(1, 1))
    after = FolderSet.from_folder(folder, tmp_path / "cache")
    assert after.digests != before.digests
    assert [cache.digest(image) for image in after] == after.digests
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert np.array_equal(before[1], photos[2])  # a run that has the old cache open goes on with it


def test_folders_share_a_cache_dir(folder, photos, tmp_path):
    write_image(tmp_path / "other" / "0.png", photos[4])
    one = FolderSet.from_folder(folder, tmp_path / "cache")
    other = FolderSet.from_folder(tmp_path / "other", tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 4
    assert other.digests == [one.digests[2]]


def test_a_truncated_cache_is_built_again(folder, tmp_path, decoded):
    first = FolderSet.from_folder(folder, tmp_path / "cache")
    pixels = next((tmp_path / "cache").glob("*.rgb"))
    content = pixels.read_bytes()
    pixels.unlink()
    pixels.write_bytes(content[:-7])
    second = FolderSet.from_folder(folder, tmp_path / "cache")
    assert len(decoded) == 10
    assert second.digests == first.digests


def test_a_folder_of_damaged_images_is_refused_and_leaves_no_cache(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "photos" / name).write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(UserError, match=r"photos: none of its 2 images can be used; the first is a\.png: "):
        FolderSet.from_folder(tmp_path / "photos", tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_what_a_killed_writer_left_is_removed_and_a_living_ones_file_stays(folder, tmp_path):
    FolderSet.from_folder(folder, tmp_path / "cache")
    index = next((tmp_path / "cache").glob("*.json"))
    left = [tmp_path / "cache" / f".{index.stem}-abcd_123{suffix}" for suffix in (".rgb", ".json")]
    for path in left:
        path.touch()
    foreign = tmp_path / "cache" / ".other-abcd_123.rgb"
    foreign.touch()
    with replacing(index) as alive:
        FolderSet.from_folder(folder, tmp_path / "cache")
        assert alive.exists()
        alive.write_bytes(index.read_bytes())
    assert not any(path.exists() for path in left)
    assert foreign.exists()


def test_a_cache_dir_that_is_a_file_is_named(folder, tmp_path):
    (tmp_path / "cache").touch()
    with pytest.raises(UserError, match="cache: the image cache cannot be written"):
        FolderSet.from_folder(folder, tmp_path / "cache")


def test_progress_counts_the_images(folder, tmp_path):
    seen = []
    FolderSet.from_folder(folder, tmp_path / "cache", lambda done, total: seen.append((done, total)))
    assert seen == [(i, 5) for i in range(1, 6)]


def test_digests_tell_images_of_the_same_bytes_and_other_sizes_apart():
    wide = np.zeros((32, 64, 3), np.uint8)
    images = FolderSet.from_arrays(["wide", "tall", "again"], [wide, wide.reshape(64, 32, 3), wide.copy()])
    assert images.digests[0] == images.digests[2] != images.digests[1]


def test_a_file_system_without_locks_is_written_to_all_the_same(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    files.write_text(tmp_path / "text", "whole")
    files.remove_leftovers(tmp_path / "text")
    assert (tmp_path / "text").read_text() == "whole"


def test_a_mount_without_maps_is_read_instead(folder, photos, tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(np, "memmap", refuse)
    for _ in range(2):
        images = FolderSet.from_folder(folder, tmp_path / "cache")
        assert sorted(image.tobytes() for image in images) == sorted(photo.tobytes() for photo in photos)
        assert not images.pixels.flags.writeable


def test_a_cache_that_cannot_be_read_names_the_field(folder, tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(np, "memmap", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(Input/output error\).*data\.cache_dir"):
        FolderSet.from_folder(folder, tmp_path / "cache")
