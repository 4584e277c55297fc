"""Tar shards as local files and http(s) addresses, nothing else; read at any place, never run or unpacked."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ..errors import UserError, install
from ..system.names import name_bytes
from .pixel_limit import limit_mark

TIMEOUT = 30  # seconds without an answer
PIECE = 2**23  # bytes that are asked for at once while a remote shard is indexed
TRIES = 4  # of a request
PAUSE = 1.0  # seconds after the first try that failed; then twice as long, and so on


@dataclass(frozen=True)
class Shard:
    """One tar file, by its path or address."""

    place: str

    @property
    def name(self) -> str:
        """Its file name."""
        return PurePosixPath(urlsplit(self.place).path if self.remote else self.place).name

    @property
    def shown(self) -> str:
        """Its path or address for messages, without what signs or opens it."""
        return without_secrets(self.place)

    @property
    def remote(self) -> bool:
        """Whether it is read over the network."""
        return self.place.startswith(("http://", "https://"))

    def read(self, begin: int, size: int) -> bytes:
        """Some of its bytes.

        Raises:
            UserError: they cannot be had.
        """
        if self.remote:
            return self._ask(begin, size)[0]
        with self._explain(), open(self.place, "rb") as file:
            file.seek(begin)
            return file.read(size)

    def stamp(self) -> str:
        """What changes when its content does.

        Raises:
            UserError: it is not there, or its server does not give parts of files.
        """
        if not self.remote:
            with self._explain():
                stat = Path(self.place).stat()
            return f"{stat.st_size} {stat.st_mtime_ns}"
        headers = self._ask(0, 1)[1]  # no HEAD request, which signed addresses refuse
        return " ".join(str(headers.get(name)) for name in ("Content-Range", "ETag", "Last-Modified"))

    def size(self) -> int:
        """Bytes of a remote shard.

        Raises:
            UserError: its server does not say.
        """
        total = str(self._ask(0, 1)[1].get("Content-Range")).rpartition("/")[2]
        if not total.isdecimal():
            raise UserError(f"{self.shown}: this server does not say how large the file is; download the shards")
        return int(total)

    def open(self) -> io.BufferedReader:
        """Open it for reading from its beginning; a remote one comes in large pieces.

        Raises:
            UserError: it cannot be read, here or later.
        """
        if self.remote:
            return io.BufferedReader(_Remote(self), PIECE)
        with self._explain():
            return open(self.place, "rb")

    def _ask(self, begin: int, size: int) -> tuple[bytes, http.client.HTTPMessage]:
        """Bytes of a remote shard, and what the server says of it."""
        request = urllib.request.Request(self.place, headers={"Range": f"bytes={begin}-{begin + size - 1}"})
        with self._explain(http.client.HTTPException):
            for pause in [*(PAUSE * 2**n for n in range(TRIES - 1)), None]:
                try:
                    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                        if answer.status != http.client.PARTIAL_CONTENT:
                            raise UserError(
                                f"{self.shown}: this server gives whole files only, and single images are asked for; "
                                "use one that answers range requests, or download the shards"
                            )
                        if int(answer.headers.get("Content-Length") or 0) > size:
                            raise UserError(f"{self.shown}: this server sends more than it was asked for")
                        return answer.read(), answer.headers
                except (OSError, http.client.HTTPException) as error:
                    if pause is None or (isinstance(error, urllib.error.HTTPError) and error.code < 500):
                        raise
                    time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    @contextlib.contextmanager
    def _explain(self, more: type[Exception] = OSError) -> Iterator[None]:
        try:
            yield
        except (OSError, more) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise UserError(f"{self.shown}: cannot be read ({reason}); check the path or address") from None


class _Remote(io.RawIOBase):
    """A remote shard as a file."""

    def __init__(self, shard: Shard) -> None:
        self._shard, self._at = shard, 0
        self._size = shard.size()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:  # a memoryview
        size = min(len(buffer), self._size - self._at)
        if size <= 0:
            return 0
        content = self._shard.read(self._at, size)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def without_secrets(place: Any) -> Any:
    """An address without its user, password, query and fragment; anything else as it is."""
    if not isinstance(place, str) or not place.startswith(("http://", "https://")):
        return place
    parts = urlsplit(place)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def expand(pattern: str) -> list[Shard]:
    """The shards that a pattern such as `shards/rain-{000..127}.tar` stands for, as WebDataset reads it.

    Raises:
        UserError: the package is missing, or the pattern names what is no local path and no http(s) address. Nothing
            that WebDataset would hand to a shell or to another program is accepted.
    """
    try:
        from webdataset.shardlists import expand_urls
    except ImportError:
        raise UserError(f"{pattern}: shards need the package webdataset: {install('shards')}") from None
    try:
        places = expand_urls(pattern)
    except (ValueError, AssertionError) as error:  # braces out of balance; a ${NAME} that the environment lacks
        raise UserError(f"{pattern}: this pattern of shards cannot be read ({error}); write {{000..127}}") from None
    for place in places:
        scheme = re.match(r"[A-Za-z][\w+.-]+(?=:)", place)
        if (scheme and scheme[0] not in ("http", "https")) or not place.strip():
            raise UserError(f"{without_secrets(place)}: shards are read from local paths and http(s) addresses alone")
        path = urlsplit(place).path if scheme else place
        if not path.endswith(".tar"):
            raise UserError(
                f"{without_secrets(place)}: a shard is a plain .tar, as single images are read from it; unpack a "
                "compressed one"
            )
    if len(set(places)) < len(places):
        raise UserError(f"{pattern}: it names a shard twice")
    return [Shard(place) for place in places]


def index_name(shard: Shard) -> tuple[str, str]:
    """The file name of the index of a shard as it is now, and a pattern of the names it had with other content."""
    where = shard.place if shard.remote else str(Path(shard.place).resolve())
    place = hashlib.blake2b(name_bytes(where), digest_size=4).hexdigest()
    content = hashlib.blake2b(limit_mark() + name_bytes(shard.stamp()), digest_size=8).hexdigest()
    return f"{place}-{content}.shard", f"{place}-*.shard"
