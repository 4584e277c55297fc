"""Sizes and loss weights of the methods beside RGSUD, a section each; the defaults are those of the published codes.

Weights are for images in [0, 1]: an L1 weight is twice that of a code whose images are in [-1, 1].
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Host(BaseModel):
    """What every method here has."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, validate_default=True)

    width: int = Field(64, ge=1, description="Channels of the translators at full resolution.")
    blocks: int = Field(9, ge=1, description="Residual blocks of the translators.")
    antialias: bool = Field(True, description="Translators and judges halve by a blur in place of strides.")
    residual: bool = Field(False, description="Translators add to their input: a fresh one is near the identity.")
    judge_width: int = Field(64, ge=1, description="Channels after a judge's first convolution.")
    high_pass: bool = Field(False, description="Judges also see the image's high frequencies.")
    adversarial: float = Field(1.0, ge=0, description="Weight of the GAN terms.")


class CycleGANConfig(Host):
    """CycleGAN (Zhu et al., ICCV 2017): two translators, there and back, and a judge of each domain."""

    cycle: float = Field(20.0, ge=0, description="Weight of L1 between an image and what both translators make of it.")
    identity: float = Field(10.0, ge=0, description="Weight of L1 between an image and its translation to itself.")


class CUTConfig(Host):
    """CUT (Park et al., ECCV 2020): one translator, and a contrast of patches before and after it."""

    contrast: float = Field(0.5, ge=0, description="Weight of PatchNCE of rainy and derained.")
    contrast_identity: float = Field(0.5, ge=0, description="Weight of PatchNCE of clean and its translation.")
    temperature: float = Field(0.07, gt=0, description="Temperature of the contrast.")
    patches: int = Field(256, ge=1, description="Places compared per layer.")
    projector: int = Field(256, ge=1, description="Channels in which features are compared.")
    mirror: bool = Field(
        False,
        description="In half of the steps the translator sees its input mirrored, and features of what it makes are "
        "mirrored back before they are compared (FastCUT); needs a crop of a multiple of 4.",
    )
