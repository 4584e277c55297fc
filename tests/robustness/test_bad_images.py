"""Images that cannot be used are named once, left out and counted, and a run that has some resumes exactly."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import darkness

from rgsud_fast.config import DataConfig
from rgsud_fast.data import FolderSet, load_domains, write_image
from rgsud_fast.errors import UserError
from rgsud_fast.runs.checkpoint import load_checkpoint
from rgsud_fast.training import train

SMOOTH = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (64, 48, 3))


def _png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds one row of nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def _cut_in_half(path: Path) -> None:
    write_image(path, SMOOTH)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _corrupt_in_the_middle(path: Path) -> None:
    write_image(path, np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


BAD = {
    "truncated.png": _cut_in_half,
    "truncated.jpg": _cut_in_half,
    "truncated.webp": _cut_in_half,
    "flipped.png": _corrupt_in_the_middle,
    "empty.png": Path.touch,
    "text.png": lambda path: path.write_text("not an image"),
    "small.png": lambda path: write_image(path, SMOOTH[:31]),
    "bomb.png": lambda path: path.write_bytes(_png(12_000, 9_000)),  # above Pillow's limit, where it only warns
    "atom.png": lambda path: path.write_bytes(_png(60_000, 60_000)),
    "dangling.png": lambda path: path.symlink_to("nowhere.png"),
}


@contextlib.contextmanager
def unprivileged():
    """Lose root's right to read everything, where the tests have it."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def photos(tmp_path) -> Path:
    for i in range(3):
        write_image(tmp_path / "photos" / f"{i}.png", SMOOTH)
    return tmp_path / "photos"


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_left_out_with_its_reason_also_when_the_cache_is_opened_again(photos, tmp_path, name, recwarn):
    BAD[name](photos / name)
    for _ in range(2):
        images = FolderSet.from_folder(photos, tmp_path / "cache")
        assert images.names == ["0.png", "1.png", "2.png"]
        assert list(images.skipped) == [name]
        assert images.skipped[name]
        assert str(tmp_path) not in images.skipped[name]
        assert all(np.array_equal(image, SMOOTH) for image in images)
    assert not [warning for warning in recwarn if issubclass(warning.category, Image.DecompressionBombWarning)]


def test_a_bomb_is_not_decoded(photos, tmp_path):
    BAD["bomb.png"](photos / "bomb.png")
    reason = FolderSet.from_folder(photos, tmp_path / "cache").skipped["bomb.png"]
    assert "12000 x 9000 pixels, more than 89,478,485" in reason


def test_a_file_that_may_not_be_read_is_left_out():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        for name in ("a.png", "secret.png"):
            write_image(Path(folder) / "photos" / name, SMOOTH)
        os.chmod(Path(folder) / "photos" / "secret.png", 0)
        with unprivileged():
            images = FolderSet.from_folder(Path(folder) / "photos", Path(folder) / "cache")
        assert images.names == ["a.png"]
        assert "Permission denied" in images.skipped["secret.png"]
        os.chmod(Path(folder) / "photos" / "secret.png", 0o644)
        with unprivileged():
            assert len(FolderSet.from_folder(Path(folder) / "photos", Path(folder) / "cache")) == 2


def test_a_folder_whose_name_ends_like_an_images_is_searched_and_no_bad_image(photos, tmp_path):
    write_image(photos / "x.png" / "in.png", SMOOTH)
    images = FolderSet.from_folder(photos, tmp_path / "cache")
    assert images.names == ["0.png", "1.png", "2.png", "x.png/in.png"]
    assert images.skipped == {}


def test_a_mended_image_comes_back(photos, tmp_path):
    BAD["text.png"](photos / "text.png")
    assert len(FolderSet.from_folder(photos, tmp_path / "cache")) == 3
    write_image(photos / "text.png", SMOOTH)
    images = FolderSet.from_folder(photos, tmp_path / "cache")
    assert len(images) == 4
    assert images.skipped == {}


@pytest.fixture
def folders(tmp_path) -> DataConfig:
    """Two domains and four validation pairs, whose second and third have a bad image each."""
    rng = np.random.default_rng(0)
    for kind, count in (("rainy", 2), ("clean", 2), ("val_rainy", 4), ("val_clean", 4)):
        for i in range(count):
            write_image(tmp_path / kind / f"{kind}-{i}.png", rng.integers(0, 256, (40, 32 + i, 3), dtype=np.uint8))
    BAD["text.png"](tmp_path / "val_rainy" / "val_rainy-1.png")
    BAD["empty.png"](_emptied(tmp_path / "val_clean" / "val_clean-2.png"))
    return DataConfig(**{kind: tmp_path / kind for kind in ("rainy", "clean", "val_rainy", "val_clean")})


def _emptied(path: Path) -> Path:
    path.unlink()
    return path


def test_a_pair_with_a_bad_member_is_skipped_and_the_others_stay_pairs(folders, tmp_path):
    told = []
    domains = load_domains(folders, tmp_path / "cache", told.append)
    assert [pair.name for pair in domains.val] == ["val_rainy-0.png", "val_rainy-3.png"]
    assert [pair.clean.shape[1] for pair in domains.val] == [32, 35]
    assert domains.skipped == {"rainy": 0, "clean": 0, "pairs": 2}
    assert [line.split(":")[0] for line in told] == ["data.val_rainy", "data.val_clean"]
    assert "1 of 4 images cannot be used and is skipped: val_rainy-1.png: cannot be read" in told[0]


def test_pairs_that_all_have_a_bad_member_are_refused(folders, tmp_path):
    for i in (0, 3):
        BAD["text.png"](tmp_path / "val_rainy" / f"val_rainy-{i}.png")
    with pytest.raises(UserError, match="every pair has an image that cannot be used"):
        load_domains(folders, tmp_path / "cache", lambda line: None)


def test_many_bad_images_are_named_up_to_ten_and_counted(folders, tmp_path):
    for i in range(12):
        BAD["text.png"](tmp_path / "rainy" / f"bad{i}.png")
    told = []
    assert load_domains(folders, tmp_path / "cache", told.append).skipped["rainy"] == 12
    assert "data.rainy: 12 of 14 images cannot be used and are skipped: bad0.png: " in told[0]
    assert told[0].endswith("; and 2 more")


def test_a_run_names_a_bad_image_once_counts_it_and_resumes_exactly(config, tmp_path, capsys):
    BAD["truncated.png"](tmp_path / "rainy" / "torn.png")
    BAD["text.png"](tmp_path / "clean" / "text.png")
    whole = train(config, scorer=darkness)
    printed = capsys.readouterr().out
    assert printed.count("torn.png") == printed.count("text.png") == 1
    assert "3 rainy and 2 clean images (1 rainy and 1 clean skipped)" in printed
    assert "skipped: 1 rainy, 1 clean" in printed
    metrics = json.loads((whole.run_dir / "metrics.json").read_text())
    assert [metrics[f"skipped_{name}"] for name in ("rainy", "clean", "pairs")] == [1, 1, 0]
    assert "images and pairs skipped" in (whole.run_dir / "gallery.html").read_text()

    half = config | {"out": str(tmp_path / "half")}
    train(half | {"stage2_iterations": 0}, scorer=darkness, quiet=True)
    resumed = train(half, scorer=darkness, resume=True, quiet=True)
    states = [load_checkpoint(result.run_dir / "checkpoint.pt") for result in (whole, resumed)]
    for kind, network in states[0]["networks"].items():
        for name, tensor in network.items():
            assert torch.equal(tensor, states[1]["networks"][kind][name]), (kind, name)
    assert states[0]["images"] == states[1]["images"]
