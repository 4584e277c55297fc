"""The sections about images: where they are, and how types of rain among labelled pairs are weighed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..system.names import with_home

_SHARDS = re.compile(r"^[A-Za-z][\w+.-]+:|\.(tar|tgz|tar\.\w+)$")  # an address with a scheme, or the name of an archive


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True, validate_default=True)

    @field_validator("*", mode="after")
    @classmethod
    def _writable_from_home(cls, value: Any) -> Any:
        if isinstance(value, (str, Path)) and "\0" in str(value):
            raise ValueError("a path cannot hold the character NUL")
        return with_home(value)


class DataConfig(Section):
    """Where the images are. Rainy and clean photographs need not show the same scenes."""

    demo: bool = Field(False, description="Train on the embedded photographs with rendered rain instead of folders.")
    rainy: str | Path | None = Field(
        None,
        description="Folder of rainy photographs, searched recursively; or tar shards, by a path or http(s) address "
        "ending in .tar, several as rain-{000..127}.tar.",
    )
    clean: str | Path | None = Field(None, description="Folder or shards of clean photographs of other scenes.")
    val_rainy: str | Path | None = Field(None, description="Folder or shards of rainy validation images (optional).")
    val_clean: str | Path | None = Field(
        None,
        description="Folder or shards of their clean versions, matched by file name (901_1, 901_2 with 901, too).",
    )
    pairs: tuple[Path, ...] = Field(
        (),
        description="Folders of labelled pairs to train on, each in the layout of a public set or with what distil kept"
        " (docs/unirain.md); beside rainy and clean folders, or with the method unirain alone.",
    )
    pairs_type: Literal["none", "auto", "drs", "drd", "nrs", "nrd"] = Field(
        "none",
        description="Type of rain of the labelled pairs whose layout and names tell none; auto: a network says it of "
        "each, where it is sure enough.",
    )
    pairs_index: Path | None = Field(
        None,
        description="Folder of rgsud-fast index whose network pairs_type auto asks; default: one that is fitted to "
        "rain rendered on the pairs' clean images, in a minute of one core.",
    )
    held_out: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of each type's scenes among labelled pairs that no step sees, at most 64: they weigh types.",
    )
    balance: Literal["natural", "equal"] = Field(
        "natural", description="Labelled pairs come each as often, or their types take turns."
    )
    cache_dir: Path | None = Field(
        None, description="Folder of the decoded-image cache and of the shards' indices; default: RUN/cache."
    )
    cache_gib: float = Field(
        4.0, ge=0, description="Most memory for decoded images of one set of shards, GiB; the rest decode at each use."
    )

    @model_validator(mode="after")
    def _asked(self) -> DataConfig:
        if self.pairs_index is not None and self.pairs_type != "auto":
            raise ValueError("pairs_index is asked by pairs_type auto alone: give both, or leave it out")
        return self

    @field_validator("pairs", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, (str, Path)) else () if value is None else value

    @field_validator("pairs", mode="after")
    @classmethod
    def _from_home(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(with_home(folder) for folder in value)

    @field_validator("rainy", "clean", "val_rainy", "val_clean")
    @classmethod
    def _folder_or_shards(cls, value: str | Path | None) -> str | Path | None:
        """A string stays one where it names shards: a Path would make http:/ of http://."""
        return value if value is None or _SHARDS.search(str(value)) else Path(value)


class ReweightConfig(Section):
    """Weights of types of rain among labelled pairs, from how the loss of each converges."""

    form: Literal["steady", "released", "printed", "off"] = Field(
        "steady",
        description="steady: how much is left to learn, cut where it gets worse; released and printed: UniRain's code "
        "and paper, to compare; off: all alike.",
    )
    every: int = Field(
        1000, ge=1, description="Iterations between evaluations on held-out pairs; the first ten only look."
    )
    window: int = Field(10, ge=2, description="Evaluations of which means and slopes are taken.")
    floor: float = Field(0.1, ge=0, le=1, description="Least share of a type, for steady.")
    average: float = Field(0.7, ge=0, lt=1, description="Of earlier weights in their moving average, for steady.")
