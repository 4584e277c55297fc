"""Files that a user names, looked at before torch is loaded: what is not there is told at once."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import UserError
from .hub import is_hub_name

INDEX = "index.sqlite"  # by which an index is known


def check_images(*paths: Path | None) -> None:
    """Demand images or folders that are there; None is passed over.

    Raises:
        UserError: the first that is not.
    """
    for path in paths:
        if path is not None and not (path.is_file() or path.is_dir()):
            raise UserError(f"{path}: no such file or folder; give an image or a folder of images")


def no_index(folder: Path) -> UserError:
    """The refusal of a folder that holds no index of photographs."""
    return UserError(f"{folder} is no index: make one with rgsud-fast index REFERENCES {folder}")


def check_index(folder: Path) -> None:
    """Demand an index of photographs.

    Raises:
        UserError: the folder is none.
    """
    if not (folder / INDEX).is_file():
        raise no_index(folder)


def check_seed(seed: int) -> None:
    """Demand a seed that numpy takes.

    Raises:
        UserError: it is negative.
    """
    if seed < 0:
        raise UserError(f"seed {seed} must be at least 0")


def check_weights(path: Path, kind: str = "derainer") -> None:
    """Demand a run folder or a file of weights that is there, or a name on the model hub, which is not looked at.

    Args:
        path: what the user names.
        kind: the network that is wanted of it.

    Raises:
        UserError: there is nothing.
    """
    if str(path).startswith(("http:/", "https:/")):
        raise UserError(f"weights are not read from addresses: download {path.name} first, or give hf:OWNER/REPO")
    if not is_hub_name(path) and not (path.is_file() or path.is_dir()):
        folder = "a toolbox of rgsud-fast toolbox train" if kind == "agent" else "a run folder of rgsud-fast train"
        raise UserError(f"no weights at {path}: give {folder} or its {kind}.safetensors")


def check_target(path: Path | None) -> None:
    """Demand that a file can be written there once the work is done; None is passed over.

    Raises:
        UserError: it is a folder, or its folder is missing, a file or closed.
    """
    if path is None:
        return
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the name of a file in it")
    if not path.parent.is_dir():
        raise UserError(f"{path}: {path.parent} is {'a file' if path.parent.exists() else 'missing'}; give a folder")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path}: {path.parent} cannot be written to; give another folder")
