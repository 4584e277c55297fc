"""Of many images each by itself: what fails is left out, named and counted, and the others go on."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from ..errors import UserError, reason

ENDS_ALL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # what no other image would be spared
NAMED = 5  # of those that are left out


class LeftOut:
    """The images that failed so far."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    @contextlib.contextmanager
    def unless(self, alone: bool, name: str) -> Iterator[None]:
        """Read, work on and write one image; where it is not alone, a failure is kept and what follows goes on.

        Args:
            alone: let every failure pass.
            name: of the image, for those failures that do not name it.
        """
        try:
            yield
        except Exception as error:  # of damaged files, odd metadata or too large images nearly anything
            if alone or (isinstance(error, OSError) and error.errno in ENDS_ALL):
                raise
            self.reasons.append(_told(error, name))

    def __str__(self) -> str:
        return f"{len(self.reasons)} are left out: {'; '.join(self.reasons[:NAMED])}"

    def tell(self, done: str) -> None:
        """Say at the end what was left out.

        Raises:
            UserError: something was.
        """
        if self.reasons:
            raise UserError(f"{done}, {self}")


def _told(error: Exception, name: str) -> str:
    if isinstance(error, UserError):
        text = str(error)
        return text if name in text else f"{name}: {text}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or name}: {error.strerror}"
    return f"{name}: {reason(error) or type(error).__name__}"
