"""The index of a tar shard: one pass reads and decodes every image once, and is kept in a file."""

from __future__ import annotations

import contextlib
import json
import tarfile
from collections.abc import Iterator
from itertools import tee
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ..errors import UserError
from ..system.files import remove_leftovers, write_text
from .folder_set import decode_all
from .image_files import READABLE
from .listing import is_nobodys, is_told
from .shard_files import Shard

LARGEST = 2**29  # bytes; a file of more is no photograph


class Entry(NamedTuple):
    """One image of a shard. Its name is a label: nothing is ever written under it."""

    name: str
    begin: int  # byte of the shard
    length: int  # in bytes, encoded
    height: int
    width: int
    digest: str


class Index(NamedTuple):
    """The usable images of a shard in its order, and what else is in it."""

    entries: list[Entry]
    skipped: dict[str, str]  # images that cannot be used: the reasons, by name
    passed: dict[str, int]  # photographs and videos of kinds that are not read here, by ending


def open_index(shard: Shard, name: tuple[str, str], cache_dir: Path) -> Index:
    """Read the index of a shard, which is made where it is missing or stale.

    Args:
        shard: whose.
        name: of the index, as `index_name` gives it.
        cache_dir: where it is, or goes.

    Raises:
        UserError: the shard cannot be read, is no plain tar, or holds samples of several images. OSError: the index
            cannot be written.
    """
    path, old = cache_dir / name[0], name[1]
    remove_leftovers(cache_dir / old)
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return _whole(Index([Entry(*entry) for entry in kept["entries"]], kept["skipped"], kept["passed"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # no index of this content, or a damaged one
    index = _read(shard)
    write_text(path, json.dumps(index._asdict()))
    for stale in set(cache_dir.glob(old)) - {path}:
        with contextlib.suppress(OSError):
            stale.unlink()
    return index


def _whole(index: Index) -> Index:
    """The same index, whose file may have been written by anybody.

    Raises:
        ValueError, AttributeError: what it holds is of another kind, or other kinds are read here than where it was
            made.
    """
    numbers = [number for entry in index.entries for number in entry[1:5]] + list(index.passed.values())
    texts = [text for entry in index.entries for text in (entry.name, entry.digest)] + list(index.skipped.values())
    if not all(type(n) is int and n >= 0 for n in numbers) or not all(isinstance(text, str) for text in texts):
        raise ValueError("the index of this shard is damaged")
    names = [entry.name for entry in index.entries] + list(index.skipped)
    if not READABLE.isdisjoint(index.passed) or not all(_suffix(name) in READABLE for name in names):
        raise ValueError("the index of this shard was made where other kinds of images are read")
    return index


def _read(shard: Shard) -> Index:
    index = Index([], {}, {})

    def content(member: tarfile.TarInfo) -> bytes:
        file.seek(member.offset_data)  # its bytes as they lie there, as they will be read in training
        return file.read(member.size)

    try:
        with shard.open() as file, tarfile.open(fileobj=file, mode="r:") as tar:
            members, again = tee(_images(shard, tar, index))
            for member, image in zip(again, decode_all(map(content, members)), strict=True):
                name = _label(member.name)
                if isinstance(image, str):
                    index.skipped[name] = image
                else:
                    height, width = image[0].shape[:2]
                    entry = Entry(name, member.offset_data, member.size, height, width, image[1])
                    index.entries.append(entry)
    except tarfile.TarError as error:
        raise UserError(f"{shard.shown}: no plain tar, or a damaged one ({error}); make or copy it again") from None
    return index


def _images(shard: Shard, tar: tarfile.TarFile, index: Index) -> Iterator[Any]:
    """The members that are image files. By WebDataset's rule a name up to its first dot is a sample's."""
    from webdataset.tariterators import base_plus_ext

    samples: dict[str, str] = {}
    for member in tar:
        name = PurePosixPath(_label(member.name))
        hidden = any(is_nobodys(part) and part != ".." for part in name.parts)
        suffix = _suffix(str(name))
        if not member.isreg() or hidden:
            continue
        if suffix not in READABLE:
            if is_told(suffix):
                index.passed[suffix] = index.passed.get(suffix, 0) + 1
            continue
        if member.size > LARGEST:
            index.skipped[str(name)] = f"{member.size:,} bytes, more than {LARGEST:,}; cut or shrink it"
            continue
        sample = base_plus_ext(str(name))[0] or str(name)
        if sample in samples:
            raise UserError(
                f"{shard.shown}: the sample {sample} has the images {samples[sample]} and {name}; a domain's shards "
                "hold one image a sample"
            )
        samples[sample] = str(name)
        yield member


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _label(name: str) -> str:
    """The name of a member as a path without a leading ./"""
    return PurePosixPath(name).as_posix()
