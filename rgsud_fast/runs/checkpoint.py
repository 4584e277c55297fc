"""The training state on disk, from which a resumed run gives the bits of an unbroken one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..system.files import replacing
from ..system.torch_files import load_tensors

VERSION = 1
FIELDS = {  # of a training state, and their types
    **{"step": int, "sweeps": int, "stage1_metrics": dict, "networks": dict, "average": dict, "optimizer": dict},
    **{"discriminator_optimizer": dict, "pool": dict, "scorer": dict, "images": list, "sizes": dict, "outcomes": dict},
    "parts": dict,
}
# What earlier checkpoints of this version lack.
OLD: dict[str, dict[str, Any]] = {"sizes": {}, "outcomes": {}, "parts": {}}


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
        state = load_tensors(path)
    except OSError as error:
        raise UserError(f"checkpoint {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"checkpoint {path} is damaged or no checkpoint: {error}; start a new run") from None
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise UserError(f"checkpoint {path} is not one of this version of rgsud_fast; start a new run")
    for name, kind in FIELDS.items():
        if not isinstance(state.get(name, OLD.get(name)), kind):
            raise UserError(f"checkpoint {path} is damaged: it holds no {name}; start a new run")
    return state
