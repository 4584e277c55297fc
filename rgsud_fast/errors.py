"""The one exception a user is meant to read, and words that its messages share."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """Something the user can mend: the message is one line that names the thing and the mend.

    The command line prints it without a traceback and exits with code 2.
    """


def reason(error: Exception, most: int = 160) -> str:
    """What an exception says, as one line of at most `most` characters."""
    return " ".join(str(error).split())[:most]


def either(choices: Sequence[str]) -> str:
    """Allowed values in words: auto, cpu or cuda."""
    return f"{', '.join(choices[:-1])} or {choices[-1]}" if len(choices) > 1 else "".join(choices)


def install(extra: str) -> str:
    """How an extra is installed, as the README tells it: from the clone, since no index has the package."""
    return f"pip install -e '.[{extra}]' in the clone that rgsud_fast was installed from"
