"""Tar shards for tests, and a set of photographs in them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rgsud_fast.data import write_image

webdataset = pytest.importorskip("webdataset", reason="shards need webdataset: pip install -e '.[shards]'")

SIZES = [(40, 50), (64, 48), (33, 70), (36, 36), (80, 34)]


def write_photos(folder: Path) -> Path:
    """Five images of noise of different sizes, 9.png to 13.png."""
    rng = np.random.default_rng(0)
    for i, size in enumerate(SIZES):
        write_image(folder / f"{9 + i}.png", rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    return folder


def write_shards(folder: Path, target: Path, per_shard: int = 2) -> str:
    """Pack the images of a folder by WebDataset's own writer; returns the pattern of the shards."""
    paths = sorted(folder.iterdir(), key=lambda path: int(path.stem))
    target.mkdir(exist_ok=True)
    with webdataset.ShardWriter(str(target / "part-%02d.tar"), maxcount=per_shard, verbose=0) as writer:
        for path in paths:
            writer.write({"__key__": path.stem, path.suffix[1:]: path.read_bytes(), "json": {"note": "no image"}})
    return str(target / f"part-{{00..{(len(paths) - 1) // per_shard:02d}}}.tar")


def write_tar(path: Path, members: dict[str, bytes], **options) -> str:
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return str(path)


def png(seed: int = 0, size: tuple[int, int] = (40, 36)) -> bytes:
    held = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(held, "PNG")
    return held.getvalue()


def same(one, other) -> None:
    assert (one.names, one.sizes, one.digests) == (other.names, other.sizes, other.digests)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
