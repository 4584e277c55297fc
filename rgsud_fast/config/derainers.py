"""Sizes of the derainers beside NAFNet, a section each; the defaults are those of the published networks."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

DerainerName = Literal["nafnet", "restormer", "drsformer", "nerd_rain"]  # their classes are `DERAINERS`
MOST_CHANNELS = 2**20  # of a level


class Sizes(BaseModel):
    """What every U-net of blocks has."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, validate_default=True)

    dim: int = Field(48, ge=2, description="Channels at full resolution, even; doubled per level.")
    blocks: tuple[int, ...] = Field((4, 6, 6, 8), min_length=2, description="Blocks per level, the bottom last.")
    heads: tuple[int, ...] = Field((1, 2, 4, 8), description="Heads per level, which divide its channels.")
    expansion: float = Field(
        2.66, gt=0, le=64, description="Hidden channels of a feed-forward by those of its block, rounded down."
    )

    @model_validator(mode="after")
    def _levels(self) -> Sizes:
        if len(self.blocks) != len(self.heads):
            raise ValueError("blocks and heads must have the same number of levels")
        if self.dim % 2 or (self.dim << len(self.blocks)) > MOST_CHANNELS:
            raise ValueError(f"dim must be even, and at most {MOST_CHANNELS >> len(self.blocks)} here")
        if any(heads < 1 or (self.dim << level) % heads for level, heads in enumerate(self.heads)):
            raise ValueError("heads must divide the channels of their levels, dim doubled per level")
        return self


class RestormerConfig(Sizes):
    """Sizes of Restormer."""

    refinement: int = Field(4, ge=0, description="Blocks after the decoder, at full resolution.")
    norm_bias: bool = Field(True, description="Normalisations take the mean away and shift.")


class DRSformerConfig(Sizes):
    """Sizes of DRSformer."""

    experts: bool = Field(
        True,
        description="First and last features go through expert layers; files for Rain200L and SPA-Data have none.",
    )
    norm_bias: bool = Field(True, description="Normalisations take the mean away and shift.")


class NeRDRainConfig(Sizes):
    """Sizes of NeRD-Rain; its small variant has `dim` 32."""

    blocks: tuple[int, ...] = Field((2, 3, 3), min_length=2, description="Blocks per level, the bottom last.")
    heads: tuple[int, ...] = Field((1, 2, 4), description="Heads per level, which divide its channels.")
    hidden: int = Field(256, ge=1, le=MOST_CHANNELS, description="Channels inside an implicit neural representation.")
