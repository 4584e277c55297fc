"""The sections about networks, losses and their optimiser: every number, its unit and its default (the paper's)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from .data_sections import Section
from .derainers import DerainerName, DRSformerConfig, MoEConfig, NeRDRainConfig, RestormerConfig, Sizes


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


class NetworkConfig(Section):
    """The derainer's kind and the sizes of the four networks."""

    derainer: DerainerName = Field("nafnet", description="Which network derains; each kind has sizes of its own.")
    derainer_width: int = Field(32, ge=1, description="Channels of the NAFNet derainer at full resolution.")
    derainer_encoder: tuple[int, ...] = Field((2, 2, 4, 8), description="Derainer blocks per encoder level.")
    derainer_middle: int = Field(12, ge=0, description="Derainer blocks at the lowest resolution.")
    derainer_decoder: tuple[int, ...] = Field((2, 2, 2, 2), description="Derainer blocks per decoder level.")
    derainer_start: Path | None = Field(
        None,
        description="Weights that the derainer starts from: a run folder, or a derainer in .safetensors or .pth, also "
        "as published, and on a model hub (hf:OWNER/REPO[/FILE]).",
    )
    restormer: RestormerConfig = Field(default_factory=RestormerConfig, description="Sizes of Restormer.")
    drsformer: DRSformerConfig = Field(default_factory=DRSformerConfig, description="Sizes of DRSformer.")
    nerd_rain: NeRDRainConfig = Field(default_factory=NeRDRainConfig, description="Sizes of NeRD-Rain.")
    moe: MoEConfig = Field(default_factory=MoEConfig, description="Experts of the derainer moe.")
    last_gain: float = Field(
        0.1,
        ge=0,
        description="Factor on the first weights of the last convolution of a derainer other than NAFNet, so that it "
        "begins near the photograph; with csud.residual of NAFNet too.",
    )
    checkpoint: Literal["none", "block"] = Field(
        "none",
        description="What training keeps of the derainer for its backward pass: everything, or the blocks' inputs, from"
        " which each block is computed once more; the same gradients in a fraction of the memory.",
    )
    unet_width: int = Field(32, ge=1, description="Channels of the degradation estimator's U-Net at full resolution.")
    unet_levels: int = Field(4, ge=1, description="Resolution levels of that U-Net, the bottom included.")
    generator_width: int = Field(64, ge=1, description="Channels of the rain generator.")
    generator_blocks: int = Field(6, ge=0, description="Residual blocks of the rain generator.")
    discriminator_width: int = Field(64, ge=1, description="Channels after the discriminator's first convolution.")
    initialization: Literal["normal", "fan_in", "xavier"] = Field(
        "normal",
        description="First weights of generator, U-Net and discriminator: N(0, 0.02), or scaled by fan-in, which "
        "narrow networks need for a signal to pass, or by both fans with gain 0.02, as CUT and DCD-GAN do.",
    )

    @model_validator(mode="after")
    def _levels(self) -> NetworkConfig:
        if len(self.derainer_encoder) != len(self.derainer_decoder):
            raise ValueError("derainer_encoder and derainer_decoder must have the same number of levels")
        return self

    @property
    def derainer_sizes(self) -> dict[str, Any]:
        """The keywords of the chosen derainer's class."""
        if self.derainer not in ("nafnet", "moe"):
            sizes: Sizes = getattr(self, self.derainer)
            return sizes.model_dump(mode="json")
        names = ("width", "encoder", "middle", "decoder")
        blocks = {name: _listed(getattr(self, f"derainer_{name}")) for name in names}
        return blocks | (self.moe.keywords if self.derainer == "moe" else {})

    @property
    def built(self) -> dict[str, Any]:
        """The fields that the networks of a run are built by, which a resumed run cannot change, in JSON's types."""
        return self.model_dump(mode="json", exclude={"derainer_start", "last_gain", "checkpoint"})


class LossConfig(Section):
    """Weights of the loss terms. An optional term, 0 by default, and the reward loss are not computed at weight 0."""

    adversarial: float = Field(1.0, ge=0, description="Weight of the LSGAN terms of the four synthesised rainy images.")
    pair: float = Field(1.0, ge=0, description="Weight of L_PSNR + L_SSIM on the pseudo pair (lambda 1).")
    pasted: float = Field(
        0.0,
        ge=0,
        description="Weight of L_PSNR + L_SSIM on pasted pairs: clean images with rain that rewards took from "
        "photographs. With `adversarial` and `pair` at 0 the generator is left out.",
    )
    pasted_gain: tuple[float, float] = Field((0.7, 1.3), description="Range of the factor on pasted rain, uniform.")
    pasted_share: float = Field(1.0, gt=0, le=1, description="Pasted pairs of an iteration, as a share of the batch.")
    pasted_on_rewards: float = Field(
        0.0, ge=0, le=1, description="Share of the pasted pairs whose clean image is a reward in place of a photograph."
    )
    pasted_floor: float = Field(
        1e-8,
        ge=1e-8,
        le=1,
        description="Squared error below which L_PSNR asks a pasted pair for no more. At 1e-8 crops with hardly any "
        "rain, which the identity solves, outweigh all others, and of faint rain nothing is learned.",
    )
    deep: float = Field(
        0.0,
        ge=0,
        description="Weight of L_PSNR + L_SSIM on the same pairs at half and a quarter of the size, of a derainer that "
        "makes the image there too: nerd_rain.",
    )
    reward: float = Field(0.8, ge=0, description="Weight of the self-reinforcement loss of stage 2 (lambda 2).")
    reward_gradient: float = Field(
        0.0,
        ge=0,
        description="Weight of the gradient of finpercep's reward in stage 2, max(1 - R, 0), with a guard on changes "
        "of large areas beyond `reward.fidelity`.",
    )
    reward_form: Literal["psnr", "sum", "mean", "l1"] = Field(
        "psnr",
        description="How its squared distance is reduced: decibels per image, sum, or mean; or l1, the mean absolute "
        "error, the scale of other methods' terms.",
    )
    channel_consistency: float = Field(0.0, ge=0, description="Weight of the grey-rain term on (clean, pseudo rainy).")
    background_guidance: float = Field(0.0, ge=0, description="Weight of the blurred-background term on the same pair.")
    self_reconstruction: float = Field(0.0, ge=0, description="Weight of L1(G(clean, 0), clean).")
    labelled: float = Field(
        1.0, ge=0, description="Weight of the labelled pairs of data.pairs: their only term, or beside those of RGSUD."
    )
    labelled_form: Literal["l1", "psnr"] = Field(
        "l1",
        description="What that term is in method unirain: the mean absolute error, as published, or RGSUD's, which is "
        "L_PSNR with loss.labelled_floor, and L_SSIM. A small network learns from l1 to leave all as it is.",
    )
    labelled_floor: float = Field(
        0.0,
        ge=0,
        description="Floor of L_PSNR on labelled pairs as a multiple of the squared error that rainy images of their "
        "type have on average; loss.pasted_floor where that is larger. Faint rain by night then counts as much as by "
        "day, and windows between drops, with nothing to do, do not outweigh drops.",
    )
    discriminator_fakes: Literal["first", "all"] = Field(
        "first", description="Which synthesised images train the discriminator: the first, or the mean of all four."
    )

    @property
    def generator(self) -> bool:
        """Whether the generator takes part: a term that it makes images for has a weight."""
        return bool(self.adversarial or self.pair)

    @model_validator(mode="after")
    def _something_to_learn(self) -> LossConfig:
        if not (self.generator or self.pasted):
            raise ValueError("adversarial, pair and pasted are 0: give one of them a weight, or nothing is learned")
        painted = ("channel_consistency", "background_guidance", "self_reconstruction")
        if not self.generator and (idle := [name for name in painted if getattr(self, name)]):
            raise ValueError(f"{', '.join(idle)}: without adversarial and pair there is no generator to train")
        if not 0 <= self.pasted_gain[0] <= self.pasted_gain[1]:
            raise ValueError(f"pasted_gain must be two numbers, the smaller first, got {list(self.pasted_gain)}")
        return self


class OptimConfig(Section):
    """Adam, its schedule, clipping and averaging."""

    learning_rate: float = Field(2e-4, gt=0, description="Learning rate at the start of stage 1.")
    stage2_learning_rate: float = Field(1e-4, gt=0, description="Learning rate at the start of stage 2.")
    final_learning_rate: float = Field(1e-6, ge=0, description="Learning rate at the end of each stage's cosine.")
    warmup: int = Field(0, ge=0, description="Iterations over which the learning rate of stage 1 rises to its first.")
    hold: float = Field(
        0.0, ge=0, le=1, description="Share of stage 1 at its first learning rate, before its cosine; 1: constant."
    )
    halve_every: int = Field(
        0, ge=0, description="Iterations after which stage 1 halves its rate, in place of hold and cosine; 0: never."
    )
    stage2_hold: float = Field(0.0, ge=0, le=1, description="The same for stage 2.")
    discriminator_ratio: float = Field(
        1.0, gt=0, description="Discriminator's learning rate as a multiple of the rest's."
    )
    discriminator_reals: int = Field(
        1, ge=1, description="Rainy crops shown to the discriminator per iteration, in batches; more teach it sooner."
    )
    discriminator_warmup: int = Field(
        0, ge=0, description="Iterations of the discriminator alone, rainy against clean, before the first of stage 1."
    )
    fake_buffer: int = Field(
        0,
        ge=0,
        description="Earlier fakes that judges are shown half of the time in place of new ones (CycleGAN's 50), a "
        "multiple of the batch; 0: none.",
    )
    clip_norm: float = Field(
        1.0, ge=0, description="Largest gradient norm per network, scaled down above it; 0 switches clipping off."
    )
    betas: tuple[float, float] = Field((0.9, 0.999), description="Adam's decays of its two moments.")
    weight_decay: float = Field(
        0.0, ge=0, description="Weight decay: with adam an L2 term of the gradient, with adamw apart from it."
    )
    algorithm: Literal["adam", "adamw"] = Field("adam", description="How weight decay is applied.")
    # Single skipped steps are a batch's fault. They leave the weights alone, so where 20 batches fail one after another
    # the weights are at fault, and no further batch can mend them.
    skip_limit: int = Field(
        20, ge=1, description="Steps in a row, skipped since a gradient is not finite, after which the run stops."
    )
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="Decay of the derainer's moving average, which then derains; 0 switches it off."
    )
