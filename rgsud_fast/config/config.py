"""The typed configuration of a whole run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from ..system.device_names import ALLOWED, PATTERN
from .data_sections import DataConfig, ReweightConfig, Section
from .host_presets import HOSTS, host_preset
from .hosts import CSUDConfig, CUTConfig, CycleGANConfig, DCDGANConfig, DerainCycleGANConfig, NLCLConfig
from .parts import LABELLED, MethodName
from .presets import PRESETS
from .reward_section import RewardConfig
from .sections import LossConfig, NetworkConfig, OptimConfig

MOST_NUMBERS = 2**28  # of the crops of an iteration, as the ops take them (ops/_check.py)


class Config(Section):
    """A whole run. Defaults are the paper's recipe; `preset` fills in what is not given."""

    preset: Literal["demo", "small", "small-gan", "medium", "paper", "unirain", "unirain-small"] = Field(
        "paper", description="Base values for every field not given."
    )
    method: MethodName = Field("rgsud", description="What trains: the method, see docs/methods.md.")
    out: Path | None = Field(None, description="Run folder; default: runs/PRESET-N, the next free N.")
    device: str = Field("auto", pattern=PATTERN, description=f"{ALLOWED}.")
    backend: Literal["auto", "native", "triton", "reference"] = Field(
        "auto", description="Which implementation of the ops runs; auto takes the fastest there is."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="What the networks compute in; auto: bfloat16 on GPUs that have it. The rest is float32."
    )
    cuda_graph: bool = Field(
        True,
        description="Record the step as a CUDA graph and replay it. Of no effect on a CPU, for several processes and "
        "for a derainer of your own.",
    )
    deterministic: bool = Field(
        False,
        description="On a GPU, take only algorithms of cuDNN that give the same bits in every run; slower. A CPU "
        "always gives them.",
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0: one per core that the process may use.")
    seed: int = Field(0, ge=0, description="Seed of initial weights, crops and everything drawn.")
    batch: int = Field(8, ge=1, description="Rainy images, and as many clean ones, per iteration.")
    crop: int = Field(256, ge=32, description="Side of the square training crops, in pixels.")
    stage1_iterations: int = Field(100_000, ge=0, le=10**9, description="Iterations of stage 1.")
    stage2_iterations: int = Field(40_000, ge=0, le=10**9, description="Iterations of stage 2.")
    log_every: int = Field(100, ge=1, description="Iterations between lines of metrics.jsonl.")
    log_gradients: bool = Field(
        True,
        description="Each line also holds the gradient norm of every loss term at the line's last iteration; costs as "
        "much as 1.5 iterations, and with cuda_graph the step's memory again.",
    )
    val_every: int = Field(5_000, ge=0, description="Iterations between validations; 0: only at the end of a stage.")
    val_local_statistics: bool = Field(
        False, description="Validations derain with local statistics (TLC), in windows of 1.5 crops."
    )
    keep_weights: Literal["last", "best"] = Field(
        "last",
        description="Which weights of the derainer a run ends with: the last, or those of the best validation by "
        "PSNR-RGB, the mean over types of rain where pairs have types. Figures on these pairs then flatter.",
    )
    save_every: int = Field(5_000, ge=1, description="Iterations between checkpoints.")
    live_gallery: bool = Field(
        True,
        description="Write gallery.html during the run too, after sweeps and validations; takes at most some 2 % of the"
        " time.",
    )
    data: DataConfig = Field(default_factory=DataConfig)
    network: NetworkConfig = Field(default_factory=NetworkConfig)
    loss: LossConfig = Field(default_factory=LossConfig)
    optim: OptimConfig = Field(default_factory=OptimConfig)
    reward: RewardConfig = Field(default_factory=RewardConfig)
    reweight: ReweightConfig = Field(default_factory=ReweightConfig)
    cyclegan: CycleGANConfig = Field(default_factory=CycleGANConfig)
    cut: CUTConfig = Field(default_factory=CUTConfig)
    csud: CSUDConfig = Field(default_factory=CSUDConfig)
    dcdgan: DCDGANConfig = Field(default_factory=DCDGANConfig)
    nlcl: NLCLConfig = Field(default_factory=NLCLConfig)
    deraincyclegan: DerainCycleGANConfig = Field(default_factory=DerainCycleGANConfig)

    def __init__(self, **given: Any) -> None:
        # Not a validator: pydantic runs those again on every assignment, where the preset has nothing to say.
        preset = given.get("preset", "paper")
        known = isinstance(preset, str) and preset in PRESETS
        base = PRESETS[preset] if known else {}
        method = given.get("method", base.get("method", "rgsud"))
        if known and isinstance(method, str) and method in HOSTS:
            base = host_preset(preset, method)
        super().__init__(**merge(base, given))

    @model_validator(mode="after")
    def _pairs(self) -> Config:
        if (self.data.val_rainy is None) != (self.data.val_clean is None):
            raise ValueError("data: val_rainy and val_clean go together: give both or neither")
        return self

    @model_validator(mode="after")
    def _labelled(self) -> Config:
        if self.method == "unirain" and not self.loss.labelled:
            raise ValueError("loss.labelled is 0, and method unirain learns from labelled pairs: give it a weight")
        if self.data.pairs and self.method not in LABELLED:
            raise ValueError(f"data.pairs: method {self.method} takes no labelled pairs; take rgsud or unirain")
        if PRESETS[self.preset].get("method", self.method) != self.method:
            raise ValueError(f"preset {self.preset} is of another method than {self.method}: take small or paper")
        return self

    @model_validator(mode="after")
    def _crops_of_bounded_size(self) -> Config:
        if 3 * self.batch * self.crop**2 > MOST_NUMBERS:
            raise ValueError(f"batch {self.batch} of crops of {self.crop} pixels is more than an op takes: lower one")
        return self

    @model_validator(mode="after")
    def _buffer_of_whole_slots(self) -> Config:
        if self.optim.fake_buffer % self.batch:
            raise ValueError(
                f"optim.fake_buffer must be a multiple of batch {self.batch}, got {self.optim.fake_buffer}: each place "
                "of a batch keeps as many fakes"
            )
        return self

    @model_validator(mode="after")
    def _first_rain(self) -> Config:
        start = self.network.derainer_start
        if self.loss.pasted and not self.loss.generator and self.reward.first == "none" and start is None:
            raise ValueError(
                "loss.pasted without a generator takes its rain from rewards: give reward.first oriented or a "
                "network.derainer_start, or nothing is ever pasted"
            )
        return self

    @property
    def iterations(self) -> int:
        """Iterations of both stages together."""
        return self.stage1_iterations + self.stage2_iterations


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Lay `over` on `base`, section by section; neither is changed."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, BaseModel):
            value = value.model_dump(exclude_unset=True)
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged
