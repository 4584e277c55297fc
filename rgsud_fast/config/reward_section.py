"""The section about rewards: how derained versions are scored, kept and fed back."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from ..errors import UserError
from .data_sections import Section
from .scorer_names import check_scorer


class RewardConfig(Section):
    """Reward recycling: how derained versions are scored, kept and fed back."""

    scorer: str = Field(
        "domain",
        description="Image-quality score: domain, niqe, niqe:FILE, brisque:FILE, daclip, daclip:FILE, finpercep, "
        "finpercep:FILE, pyiqa:METRIC or ensemble:[A,B].",
    )
    daclip_tiles: bool = Field(False, description="DACLIP-IQA looks at tiles at native scale, not at the shrunk image.")
    daclip_raindrops: bool = Field(False, description="DACLIP-IQA also subtracts P(raindrop).")
    first: Literal["none", "filter", "oriented", "fills"] = Field(
        "none",
        description="First rewards, before the first iteration, which need no training: none; each photograph by a "
        "filter along its rows; less the bright streaks of its own direction; or with these filled by what lies around "
        "them. With the last two later candidates keep that much of the rain away.",
    )
    toolbox: Path | None = Field(
        None,
        description="A toolbox (docs/toolbox.md), whose result on each photograph of a sweep is one more candidate; "
        "photographs smaller than its agent's side have none.",
    )
    keep: int = Field(1, ge=1, description="Best derained versions kept per rainy image (1 is the paper).")
    sweep_start: float = Field(0.1, ge=0, le=1, description="Share of stage 1 after which sweeps begin.")
    sweep_every: int = Field(
        0, ge=0, description="Iterations between sweeps; 0: one epoch-equivalent, clamped to 1,000 to 5,000."
    )
    sweep_images: int = Field(1000, ge=1, description="Most rainy images per sweep; larger sets roll over.")
    margin: float = Field(0.0, ge=0, description="A new version must beat the stored score by more than this.")
    local_statistics: bool = Field(
        False,
        description="Sweeps derain with local statistics, in windows of 1.5 crops: what a derainer with instance "
        "normalisation makes of a whole photograph is then nearer to what it makes of crops.",
    )
    mirror: bool = Field(
        False, description="A reward is the mean of the derained image and of its mirror image's, mirrored back."
    )
    grey_layer: bool = Field(False, description="What a reward takes away is made grey and nowhere negative.")
    fidelity: float = Field(
        0.1, gt=0, description="Largest mean low-frequency change that may enter, in [0, 1]; heavy rain may need more."
    )
    implausible: float = Field(
        float("inf"), gt=0, description="Largest penalty (below) of a removed layer that may enter, for any score."
    )
    decay: float = Field(0.0, ge=0, description="Taken off every stored score at each sweep, so that old ones yield.")
    newest: bool = Field(
        False, description="A sweep's candidate that passes the guards takes the place of all older versions."
    )
    evict: bool = Field(False, description="A sweep drops versions that score below the present derainer's.")
    rescore: bool = Field(False, description="A sweep scores stored versions anew, for scores that change.")
    pool_device_gib: float | None = Field(
        None, ge=0, description="Most of the device's memory for rewards, GiB; default: a quarter of what is free."
    )
    pool_host_gib: float | None = Field(
        None, ge=0, description="Most of the host's memory for the rest (GPU only); beyond it, a mapped file."
    )
    spread: float = Field(50.0, ge=0, description="The domain score's penalty on a coloured rain layer.")
    low_frequency: float = Field(50.0, ge=0, description="Its penalty on a change of large areas.")
    negative: float = Field(200.0, ge=0, description="Its penalty on a layer that darkens.")
    patience: int = Field(
        0,
        ge=0,
        description="Sweeps after which stage 2 stops if neither the pool's mean score nor the reward loss improved, "
        "at whatever learning rate it has come to; 0: never, as in the paper.",
    )
    least_gain: float = Field(
        1e-3, ge=0, description="Smallest improvement that counts for it, as a share of the best value so far."
    )
    curriculum: Literal["off", "schedule", "plateau"] = Field(
        "off",
        description="Of finpercep, how its stages follow in stage 2: the last at once, by shares of it, or the next "
        "one when scores no longer rise. At each switch all stored versions are scored anew.",
    )
    curriculum_shares: tuple[float, float, float] = Field(
        (0.3, 0.3, 0.4), description="Shares of stage 2 that finpercep's stages 1, 2 and 3 take."
    )
    fit_iterations: int = Field(
        0,
        ge=0,
        description="Iterations of the fit of finpercep at the end of stage 1, after small derainers have practised; "
        "0: 2,600.",
    )
    map_top: float = Field(1.0, gt=0, le=1, description="Share of the most spoiled pixels that finpercep's score asks.")
    map_weights: bool = Field(
        False, description="The reward loss weighs pixels by how little the reward is spoiled there; needs finpercep."
    )
    regions: bool = Field(
        False,
        description="A sweep also offers a version composed of the less spoiled blocks of the new one and the best "
        "stored; needs finpercep.",
    )
    region_margin: float = Field(0.05, ge=0, description="By which a block's mean of the map must be lower for that.")
    switch: bool = Field(True, description="Stage 2 takes the reward as the clean estimate of the rainy image.")

    @field_validator("curriculum_shares")
    @classmethod
    def _shares_of_the_whole(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) < 0 or abs(sum(value) - 1) > 1e-6:
            raise ValueError(f"three shares that add up to 1, got {list(value)}")
        return value

    @field_validator("scorer")
    @classmethod
    def _check_scorer(cls, value: str) -> str:
        try:
            check_scorer(value)
        except UserError as error:
            raise ValueError(error) from None
        return value
