"""Sizes and loss weights of the methods beside RGSUD, a section each; the defaults are those of the published codes.

Weights are for images in [0, 1]: an L1 weight is twice that of a code whose images are in [-1, 1].
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator


class HostSection(BaseModel):
    """What every method here has."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, validate_default=True)

    judge_width: int = Field(64, ge=1, description="Channels after a judge's first convolution.")
    adversarial: float = Field(1.0, ge=0, description="Weight of the GAN terms.")


class Host(HostSection):
    """What the methods of translators have."""

    width: int = Field(64, ge=1, description="Channels of the translators at full resolution.")
    blocks: int = Field(9, ge=1, description="Residual blocks of the translators.")
    antialias: bool = Field(True, description="Translators and judges halve by a blur in place of strides.")
    residual: bool = Field(False, description="Translators add to their input: a fresh one is near the identity.")
    high_pass: bool = Field(False, description="Judges also see the image's high frequencies.")


class CycleGANConfig(Host):
    """CycleGAN (Zhu et al., ICCV 2017): two translators, there and back, and a judge of each domain."""

    cycle: float = Field(20.0, ge=0, description="Weight of L1 between an image and what both translators make of it.")
    identity: float = Field(10.0, ge=0, description="Weight of L1 between an image and its translation to itself.")


class Contrasted(Host):
    """What the methods have that compare features of patches."""

    temperature: float = Field(0.07, gt=0, description="Temperature of the contrast.")
    patches: int = Field(256, ge=1, description="Places compared per layer.")
    projector: int = Field(256, ge=1, description="Channels in which features are compared.")


class CUTConfig(Contrasted):
    """CUT (Park et al., ECCV 2020): one translator, and a contrast of patches before and after it."""

    contrast: float = Field(0.5, ge=0, description="Weight of PatchNCE of rainy and derained.")
    contrast_identity: float = Field(0.5, ge=0, description="Weight of PatchNCE of clean and its translation.")
    mirror: bool = Field(
        False,
        description="In half of the steps the translator sees its input mirrored, and features of what it makes are "
        "mirrored back before they are compared (FastCUT); needs a crop of a multiple of 4.",
    )


class CSUDConfig(HostSection):
    """CSUD (CVPR 2025): a transfer network that paints the rain of a guide; the derainer is that of `network`."""

    width: int = Field(64, ge=1, description="Channels of the transfer network.")
    blocks: int = Field(6, ge=0, description="Residual blocks of the transfer network.")
    residual: bool = Field(
        False,
        description="The transfer network adds to the clean image, and it and the derainer begin near the identity.",
    )
    channel_consistency: float = Field(10.0, ge=0, description="Weight of the grey-rain term.")
    clean_guides: float = Field(
        5.0,
        ge=0,
        description="Weight of L1 between a clean image and what it becomes by itself and by derained guides.",
    )
    pair: float = Field(1.0, ge=0, description="Weight of L1 on the pseudo pair.")
    structure: float = Field(1.0, ge=0, description="Weight of -log10 of SSIM on the pseudo pair.")
    derained_guides: float = Field(
        0.5,
        ge=0,
        description="Weight of L1 between a clean image and what it becomes by derained guides of both kinds.",
    )
    background_guidance: float = Field(0.0, ge=0, description="Weight of the blurred-background term; published, off.")
    switch: float = Field(
        5.0,
        ge=0,
        description="Weight, in stage 2 with reward.switch, of L1 between a photograph and its reward with "
        "its rain painted again.",
    )


class DCDGANConfig(Contrasted):
    """DCD-GAN (Chen et al., CVPR 2022): two translators, each judged by hinge, and contrasts across them."""

    adversarial: float = Field(0.5, ge=0, description="Weight of the hinge of both translations.")
    contrast: float = Field(1.0, ge=0, description="Weight of PatchNCE of both translations.")
    identity: float = Field(1.0, ge=0, description="Weight of L1 between an image and its translation to itself.")
    cycle: float = Field(
        0.0, ge=0, description="Weight of L1 between an image and what both translators make of it; published, unused."
    )
    unpaired: float = Field(
        0.0, ge=0, description="Weight of L1 between a translation and an image of another scene; published, unused."
    )
    frequency: float = Field(
        0.0, ge=0, description="Weight of the squared difference of the same two's spectra; published, unused."
    )
    projector_ratio: float = Field(
        10.0, gt=0, description="Learning rate of the projectors as a multiple of the translators'."
    )
    projector_betas: tuple[float, float] = Field((0.9, 0.999), description="Adam's decays of the projectors.")
    switch: float = Field(
        20.0,
        ge=0,
        description="Weight, in stage 2 with reward.switch, of L1 between a photograph and its painted reward.",
    )


class NLCLConfig(Contrasted):
    """NLCL (Ye et al., CVPR 2022): separators of background and rain, and contrasts at places of like content."""

    width: int = Field(32, ge=1, description="Channels of the separators.")
    blocks: int = Field(16, ge=1, description="Residual blocks of the separators.")
    antialias: bool = Field(True, description="The judge halves by a blur in place of strides.")
    residual: bool = Field(False, description="The background adds to the image: a fresh one is near the identity.")
    contrast: float = Field(0.5, ge=0, description="Weight of PatchNCE of rainy and derained.")
    contrast_identity: float = Field(0.5, ge=0, description="Weight of PatchNCE of clean and its background.")
    layers: float = Field(1.0, ge=0, description="Weight of the supervised contrast of background and rain layer.")
    sum: float = Field(4.0, ge=0, description="Weight of the squared error of background and rain layer together.")
    background: float = Field(0.2, ge=0, description="Weight of L1 between the background and the rainy image.")
    pair: float = Field(
        0.0, ge=0, description="Weight of L1 between a clean image and the background of it under the rain layer."
    )
    switch: float = Field(
        4.0,
        ge=0,
        description="Weight, in stage 2 with reward.switch, of the squared error of the rain layer to a reward's.",
    )
    patch: int = Field(16, ge=1, description="Side of the patches whose content is compared, in pixels.")
    reach: int = Field(20, ge=1, description="How far from a patch its like are looked for, in pixels each way.")
    background_patches: int = Field(8, ge=2, description="Places of the background in the contrast of layers.")
    rain_patches: int = Field(128, ge=2, description="Places of the rain layer in it.")
    judge_layers: int = Field(5, ge=1, le=5, description="Layers of the judge that it compares, from the image on.")

    @model_validator(mode="after")
    def _places(self) -> NLCLConfig:
        fewest = (self.reach + 1) ** 2  # in a corner of the image
        if max(self.patches, self.background_patches, self.rain_patches) > fewest:
            raise ValueError(f"within {self.reach} pixels of a corner lie {fewest} places: compare fewer, or reach on")
        return self


class DerainCycleGANConfig(Host):
    """DerainCycleGAN (Wei et al., TIP 2021): CycleGAN whose translators are given what a detector of rain finds."""

    blocks: int = Field(5, ge=1, description="Pairs of convolutions in each look of the detector.")
    antialias: bool = Field(False, description="Judges of one scale halve by a blur in place of strides.")
    around: int = Field(2, ge=0, description="Convolutions before and after the dilated ones of a translator.")
    dilations: list[Annotated[int, Field(ge=1)]] = Field([2, 4, 8, 16], description="Of a translator, in pixels.")
    transposed: bool = Field(True, description="Translators double by transposed convolutions, else bilinearly.")
    detector_width: int = Field(32, ge=1, description="Channels of the detector.")
    steps: int = Field(6, ge=1, description="Looks of the detector.")
    scales: int = Field(
        3, ge=0, le=5, description="Resolutions that a judge sees, without normalisation; 0: the other methods' judge."
    )
    cycle: float = Field(20.0, ge=0, description="Weight of L1 between an image and what both translators make of it.")
    clean_mask: float = Field(40.0, ge=0, description="Weight of the squared mask of a clean image.")
    layer: float = Field(40.0, ge=0, description="Weight of the squared error of mask and derained image together.")
    rainy_mask: float = Field(
        0.0, ge=0, description="Weight of the squared distance of a rainy image's mask from the mean of noise, 1/4."
    )
    switch: float = Field(
        20.0,
        ge=0,
        description="Weight, in stage 2 with reward.switch, of L1 between a photograph and its painted reward.",
    )
    switch_mask: float = Field(
        40.0,
        ge=0,
        description="Weight, in stage 2 with reward.switch, of the squared error of the mask to a reward's grey rain.",
    )
