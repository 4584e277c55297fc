"""Sizes of the derainers beside NAFNet, a section each; the defaults are those of the published networks."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

DerainerName = Literal["nafnet", "restormer", "drsformer", "nerd_rain", "moe"]  # their classes are `DERAINERS`
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


class MoEConfig(BaseModel):
    """Experts of the derainer moe; its blocks are those of NAFNet, `derainer_width` and so on."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, validate_default=True)

    experts: int = Field(3, ge=2, le=8, description="Experts per level, with kernels of 3, 5, 7 ... pixels.")
    active: int = Field(1, ge=1, le=8, description="Experts that a hard level keeps for an image.")
    noise: float = Field(0.33, ge=0, description="Standard deviation of the noise on the router's logits in training.")
    balance: float = Field(0.01, ge=0, description="Weight of the loss that keeps all experts in use, in any method.")
    encoder: Literal["soft", "hard"] = Field(
        "soft", description="Levels of the encoder weigh all experts, or keep some."
    )
    decoder: Literal["soft", "hard"] = Field(
        "hard", description="The same of the decoder; under methods other than unirain it is soft in stage 1."
    )

    @model_validator(mode="after")
    def _some_of_all(self) -> MoEConfig:
        if self.active > self.experts:
            raise ValueError(f"active must be at most the number of experts, {self.experts}")
        return self

    @property
    def keywords(self) -> dict[str, Any]:
        """What `MoENet` is built by beside its blocks."""
        own = {"experts": self.experts, "active": self.active, "noise": self.noise}
        return own | {"hard_encoder": self.encoder == "hard", "hard_decoder": self.decoder == "hard"}


class NeRDRainConfig(Sizes):
    """Sizes of NeRD-Rain; its small variant has `dim` 32."""

    blocks: tuple[int, ...] = Field((2, 3, 3), min_length=2, description="Blocks per level, the bottom last.")
    heads: tuple[int, ...] = Field((1, 2, 4), description="Heads per level, which divide its channels.")
    hidden: int = Field(256, ge=1, le=MOST_CHANNELS, description="Channels inside an implicit neural representation.")
