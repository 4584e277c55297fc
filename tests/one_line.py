"""What every mistake at the command line ends in."""

from __future__ import annotations

from typing import Any

from rgsud_fast import cli


def told(capsys: Any, args: list[Any], code: int = 2) -> str:
    """The one line on standard error that a mistake gives."""
    assert cli.main([str(arg) for arg in args]) == code
    error: str = capsys.readouterr().err
    assert error.startswith("rgsud-fast: ")
    assert error.count("\n") == 1, error
    assert "Traceback" not in error
    return error
