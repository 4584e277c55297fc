"""Writing files so that a reader never sees half of one, also where the writer is killed or the disk is full."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError

try:
    import fcntl
except ImportError:  # no POSIX system: nothing is locked there, and leftovers stay
    fcntl = None  # type: ignore[assignment]

LONGEST = 100  # bytes of a name that a temporary one repeats; file systems take 255
REFUSED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # what this file system does not offer
NO_MAPS = (errno.ENODEV, errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM)  # of a mount that maps no files


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on failure it is removed.

    The temporary file is locked meanwhile, so that `remove_leftovers` can tell it from one whose writer was killed.
    Locks, permissions and renaming are courtesies that a file system may refuse; without the last of them a reader may
    see half of a file.

    Raises:
        OSError: the folder cannot be written or the disk is full; it names `path`, which keeps its old content.
    """
    path = Path(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix, suffix = _around(path)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=suffix)
        temporary = Path(name)
        try:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # a file system without locks; leftovers then stay
                    fcntl.flock(handle, fcntl.LOCK_EX)
            yield temporary
            with open(temporary, "rb+") as written, _unless_refused():
                os.fsync(written.fileno())
            with contextlib.suppress(OSError):
                os.chmod(temporary, 0o666 & ~_umask())
            try:
                os.replace(temporary, path)
            except OSError as error:
                if error.errno not in REFUSED:
                    raise
                shutil.copyfile(temporary, path)
        finally:
            os.close(handle)
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Let an error of the system name `path`, which a failed write or a library on top of it does not.

    Raises:
        OSError: what happened, with `path` as its file name.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = None if isinstance(error, UserError) else error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        if cause is None or cause.errno is None:
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from error


def remove_leftovers(path: Path) -> None:
    """Remove what writers of `path` left beside it when they were killed; files of writers still alive are locked.

    Args:
        path: as given to `replacing`; its name may be a pattern such as *.safetensors.
    """
    prefix, suffix = _around(path)
    for leftover in path.parent.glob(f"{prefix}????????{suffix}") if fcntl is not None else ():
        with contextlib.suppress(OSError), open(leftover, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, all or nothing; what of a name is no UTF-8 is written as \\udcXX."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_small(path: str | Path, most: int) -> bytes:
    """Read a file that has no business being large; devices, which need not end, are no files.

    Raises:
        OSError: there is no such file, or it has more than `most` bytes.
    """
    if Path(path).exists() and not Path(path).is_file():
        raise OSError(errno.EINVAL, "not a file", str(path))
    with open(path, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"more than {most:,} bytes", str(path))
    return content


def _around(path: Path) -> tuple[str, str]:
    """What comes before and after the eight letters of a temporary name; short where the name itself is long."""
    if len(os.fsencode(path.name)) <= LONGEST:
        return f".{path.stem}-", path.suffix
    return f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}-", path.suffix[:8]


@contextlib.contextmanager
def _unless_refused() -> Iterator[None]:
    """Pass over what the file system does not offer."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSED:
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
