"""Saving and restoring a training state, so that a resumed run gives the bits of an unbroken one."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from .errors import UserError
from .files import replacing

VERSION = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a training state, all or nothing.

    Args:
        path: the file; replaced only when the new one is complete.
        state: nested dicts and lists of tensors, numbers and strings.
    """
    # Through a file of Python's, whose error says that the disk is full; torch's own says that a position is wrong.
    with replacing(path) as temporary, open(temporary, "wb") as file:
        torch.save({"version": VERSION, **state}, file)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a training state onto the CPU; only tensors and plain values are accepted, never code.

    Raises:
        UserError: the file cannot be read or is not a checkpoint of this version.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except OSError as error:
        raise UserError(f"checkpoint {path}: {error.strerror}") from None
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError) as error:
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise UserError(f"checkpoint {path} is damaged or no checkpoint: {reason}; start a new run") from None
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise UserError(f"checkpoint {path} is not one of this version of rgsud_fast; start a new run")
    return state
