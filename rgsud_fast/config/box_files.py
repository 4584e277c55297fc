"""The files of a toolbox, by which a folder is known for one before torch is loaded."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError

CONFIG, TOOLS, TUNED, AGENT = "config.yaml", "tools", "tools-joint", "agent.safetensors"


def is_box(path: str | Path) -> bool:
    """Whether a folder holds a toolbox with an agent."""
    return (Path(path) / AGENT).is_file() and (Path(path) / TOOLS).is_dir()


def check_box(path: Path) -> None:
    """Demand a finished toolbox.

    Raises:
        UserError: there is none, or one that was begun.
    """
    if not is_box(path):
        started = (path / CONFIG).is_file() and not (path / "derainer.safetensors").is_file()
        begun = f"; finish it: rgsud-fast toolbox train --resume --out {path}" if started else ""
        raise UserError(f"{path} holds no finished toolbox{begun or ': make one with rgsud-fast toolbox train'}")
