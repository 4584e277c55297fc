"""The folder of a toolbox: what it may hold before a training, what goes when one goes on, its configuration."""

from __future__ import annotations

import json

import yaml

from ..config.toolbox import ToolboxConfig
from ..data.image_files import READABLE
from ..errors import UserError
from ..networks.toolbox import TOOLS, TUNED, is_box
from ..networks.toolbox.box import CONFIG
from ..runs.folder import RunFolder
from ..system.files import remove_leftovers, write_text


def refuse_other_contents(folder: RunFolder) -> None:
    """Demand a folder that a new toolbox does not mix with.

    Raises:
        UserError: it holds a toolbox, a run, or images.
    """
    if folder.checkpoint.exists() or folder.metrics.exists() or is_box(folder.path):
        raise UserError(
            f"{folder.path} already holds something trained: add --resume to continue it, or give another --out"
        )
    if any(path.suffix.lower() in READABLE for path in folder.path.iterdir()):
        raise UserError(f"{folder.path} holds images: give a folder for the toolbox alone as --out")


def refuse_ways_out(folder: RunFolder) -> None:
    """Demand that tools, too, are written inside, also in a folder that came from somebody else.

    Raises:
        UserError: a link leads out of the folder; the message names it.
    """
    folder.refuse_ways_out()
    for name in (TOOLS, TUNED):
        if not (folder.path / name).resolve().is_relative_to(folder.path.resolve()):
            raise UserError(f"{folder.path / name} is a link that leads out of the toolbox: remove it")


def tidy(folder: RunFolder) -> None:
    """Remove the temporary files of a training that was killed while it wrote."""
    folder.tidy()
    for name in (TOOLS, TUNED):
        remove_leftovers(folder.path / name / "*.safetensors")


def save_config(config: ToolboxConfig, folder: RunFolder) -> None:
    """Write the configuration."""
    write_text(folder.path / CONFIG, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def cut_log(folder: RunFolder, place: int, done: int) -> None:
    """Drop the lines that are written again."""
    rows = [row for row in folder.read_log() if (row.get("place", 0), row["step"]) <= (place, done)]
    write_text(folder.log, "".join(f"{json.dumps(row)}\n" for row in rows))
