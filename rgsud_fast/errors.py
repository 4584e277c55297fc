"""The one exception a user is meant to read."""


class UserError(Exception):
    """Something the user can mend: the message is one line that names the thing and the mend.

    The command line prints it without a traceback and exits with code 2.
    """


def reason(error: Exception, most: int = 160) -> str:
    """What an exception says, as one line of at most `most` characters."""
    return " ".join(str(error).split())[:most]
