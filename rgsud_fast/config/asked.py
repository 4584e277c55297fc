"""What a run asks for that its configuration and names of files alone show to be impossible: told before all else."""

from __future__ import annotations

import os

from ..errors import UserError
from .box_files import check_box
from .config import Config
from .data_sections import DataConfig


def check_asked(config: Config) -> None:
    """Demand what a run cannot begin without, before torch is loaded or an image is read.

    Raises:
        UserError: a field of `data` that is missing or contradicts another, or `reward.toolbox` that is none.
    """
    check_sources(config.data, config.method == "unirain")
    rainy, clean = config.data.rainy, config.data.clean
    if rainy is not None and clean is not None and os.path.realpath(rainy) == os.path.realpath(clean):
        raise UserError(f"data.rainy and data.clean are both {rainy}: give the folder of clean photographs too")
    if config.reward.toolbox is not None:
        try:
            check_box(config.reward.toolbox)
        except UserError as error:
            raise UserError(f"reward.toolbox: {error}") from None


def check_sources(data: DataConfig, labelled: bool) -> None:
    """Demand that the images of a run are named; `labelled`: pairs are, and are enough.

    Raises:
        UserError: it names the field that is missing or contradicts another.
    """
    if data.demo:
        _refuse_folders_beside_demo(data)
        return
    if labelled and not data.pairs:
        raise UserError(
            "data.pairs is not set: give the folder of labelled pairs (--data.pairs DIR; rgsud-fast render makes "
            "some from clean photographs)"
        )
    if labelled and data.rainy is None and data.clean is None:
        return
    for field in ("rainy", "clean"):
        if getattr(data, field) is None:
            raise UserError(
                f"data.{field} is not set: give the folder of {field} photographs (--data.{field} DIR), "
                "or train on the embedded ones (--preset demo)"
            )


def _refuse_folders_beside_demo(data: DataConfig) -> None:
    for field in ("rainy", "clean", "val_rainy", "val_clean", "pairs"):
        if getattr(data, field):
            raise UserError(
                f"data.{field} names a folder, and data.demo asks for the embedded photographs: "
                "choose --preset small or paper for your own, or leave the folder out"
            )
