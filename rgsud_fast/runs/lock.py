"""One living owner for each run folder."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from ..errors import UserError

try:
    import fcntl
except ImportError:  # no POSIX system: nothing is locked there
    fcntl = None  # type: ignore[assignment]

NAME = ".owner"


class FolderLock:
    """A lock on a folder, held until `release` or until its process ends, however it ends.

    The file in the folder that is locked names process and machine; it goes with the lock. The file of a process that
    was killed stays, and binds nobody.

    Args:
        folder: an existing folder.
        mend: what to do where it cannot be had.

    Raises:
        UserError: another process, or another run of this one, holds it; the message names it.
    """

    def __init__(self, folder: Path, mend: str = "give another --out") -> None:
        self.path, self._mend = folder / NAME, mend
        self.works = False  # False: this file system knows no locks, and nobody is kept away
        self._handle: int | None = None
        while self._handle is None:
            try:
                handle = self._open(os.O_RDWR | os.O_CREAT)
            except OSError as error:
                raise UserError(f"{self.path} cannot be written: {error.strerror}; {mend}") from None
            if not self._lock(handle):
                os.close(handle)

    def _open(self, access: int) -> int:
        """The file to lock; where another user made it, to read alone, which a lock needs no more than."""
        flags = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        try:
            return os.open(self.path, access | flags, 0o666)
        except PermissionError:
            return os.open(self.path, os.O_RDONLY | flags)

    def _lock(self, handle: int) -> bool:
        """Take this file; False where its owner removed it meanwhile, so that the folder has another one by now."""
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.works = True
        except BlockingIOError:
            owner = os.read(handle, 200).decode(errors="replace").strip() or "another process"
            os.close(handle)
            raise UserError(
                f"{self.path.parent} belongs to a run that goes on ({owner}): wait for its end, or {self._mend}"
            ) from None
        except OSError:  # a file system without locks
            self.works = False
        if self.works and not self._is(handle):
            return False
        self._handle = handle
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        return True

    def _is(self, handle: int) -> bool:
        """Whether the path still leads to the file that was locked."""
        try:
            there, ours = os.stat(self.path), os.fstat(handle)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def release(self) -> None:
        """Let others have the folder; a second call does nothing."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()
            with contextlib.suppress(OSError):
                os.close(self._handle)
            self._handle = None
