"""The typed configuration of a toolbox: its tools, the damage it meets, its agent and their joint tuning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from ..errors import UserError
from ..system.device_names import ALLOWED, PATTERN
from .config import merge
from .data_sections import Section
from .load import explain, read_yaml
from .toolbox_presets import TOOLBOX_PRESETS

Net = Literal["small", "large"]
Kind = Literal["blur", "noise", "jpeg", "streaks", "drops", "night", "given"]
Loss = Literal["mse", "decibels"]
Severity = Literal["mild", "moderate", "severe"]
STOP = "stop"  # what the agent does without a tool
SEVERITIES: tuple[Severity, ...] = ("mild", "moderate", "severe")


class ToolConfig(Section):
    """One tool: what it repairs, and of what strength."""

    name: str = Field(pattern=r"^[A-Za-z0-9][\w-]{0,39}$", description="Name of the tool and of its file.")
    damage: Kind = Field(
        description="What it repairs; given: a network that comes trained, such as a run's derainer, and has no band."
    )
    low: float = Field(
        0.0, ge=0, description="Weakest damage: blur sigma, noise sigma of 255, JPEG quality, or a share."
    )
    high: float = Field(0.0, ge=0, description="Strongest damage, in the same unit.")
    net: Net = Field("small", description="21,827 or 50,851 parameters.")

    @model_validator(mode="after")
    def _usable(self) -> ToolConfig:
        if self.name == STOP:
            raise ValueError(f"{STOP} is what the agent does without a tool: give another name")
        if self.damage != "given" and not self.low < self.high:
            raise ValueError(f"{self.name}: low {self.low} must be less than high {self.high}")
        return self


class DamageConfig(Section):
    """What the agent's images suffer."""

    rain: bool = Field(False, description="Rain first, by day or night, then each of the camera's with that share.")
    share: float = Field(0.6, ge=0, le=1, description="With rain: how often blur, noise and JPEG each occur.")
    severity: Severity | Literal["all"] = Field("moderate", description="What the agent is trained on.")


class FitConfig(Section):
    """How a single tool is trained."""

    steps: int = Field(5000, ge=1, description="Most steps of a tool.")
    batch: int = Field(64, ge=1, description="Patches per step.")
    optimizer: Literal["sgd", "adam"] = Field(
        "sgd", description="SGD with momentum 0.9 and weight decay 1e-4, or Adam."
    )
    loss: Loss = Field("mse", description="What tools minimise, alone and in chains; decibels: log(mse + 0.001).")
    learning_rate: float = Field(0.1, gt=0, description="First (SGD) or largest (Adam, one cycle) learning rate.")
    decay_every: int = Field(1250, ge=1, description="SGD: steps after which the learning rate is a tenth.")
    clip_norm: float = Field(0.4, ge=0, description="Largest norm of a gradient; 0: not clipped.")
    idle: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of a tool's patches with another kind of damage in place of its own, which it is to leave.",
    )
    look_every: int = Field(250, ge=1, description="Steps between looks at other patches.")
    look_patches: int = Field(64, ge=1, description="Patches of a look.")
    least_gain: float = Field(0.02, ge=0, description="Decibels that count as progress.")
    patience: int = Field(4, ge=1, description="SGD: looks without progress after which a tool is done.")


class AgentConfig(Section):
    """The agent and its deep Q learning."""

    side: int = Field(63, ge=32, le=96, description="Side of the patches, of tools and agent, in pixels.")
    pooled: bool = Field(
        False,
        description="It sees means and spreads of its layers over all pixels, wherever something is; otherwise, as the "
        "paper's, what is where, and should learn at half the small presets' rate.",
    )
    steps: int = Field(3, ge=1, le=3, description="Most tools in a chain.")
    total: int = Field(2_000_000, ge=1, description="Environment steps.")
    parallel: int = Field(64, ge=1, description="Episodes that run side by side.")
    update_every: int = Field(4, ge=1, description="Environment steps per update.")
    batch: int = Field(32, ge=1, description="Episodes per update.")
    learning_rate: float = Field(1e-4, gt=0, description="First learning rate of Adam.")
    final_learning_rate: float = Field(2.5e-5, gt=0, description="Last learning rate.")
    halve_every: int = Field(
        1_000_000, ge=0, description="Environment steps after which it is halved; 0: it falls evenly, in logarithms."
    )
    target_every: int = Field(10_000, ge=1, description="Environment steps between copies to the target network.")
    epsilon: float = Field(0.1, ge=0, le=1, description="Share of random actions at the end; it begins with 1.")
    explore_after: int = Field(5_000, ge=0, description="Environment steps before updates begin and the share falls.")
    explore_over: int = Field(1_000_000, ge=1, description="Environment steps over which it falls.")
    replay: int = Field(500_000, ge=64, description="Environment steps that are remembered.")
    replay_gib: float = Field(2.0, ge=0, description="Most memory for their images, GiB; beyond it they are made anew.")
    discount: float = Field(0.99, ge=0, le=1, description="What a reward one step later counts.")
    every_tool: bool = Field(
        False,
        description="It learns what every tool would gain at each state, all being tried there, and what comes later "
        "counts nothing; otherwise, by deep Q learning, what the one that was taken gains, and what comes later.",
    )
    average: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay of a moving average of its weights, which is what is kept; 0: there is none.",
    )
    turns: bool = Field(
        True,
        description="Its training patches, not those of joint tuning, are turned by quarters, with the mirror into "
        "eight directions.",
    )
    jitter: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of its and joint tuning's patches that are made darker, steeper and tinted before damage, "
        "as scenes by day may be.",
    )
    undamaged: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of its and joint tuning's patches that have no damage but the slight noise and JPEG of a "
        "good photograph, so that it learns to stop there.",
    )
    double: bool = Field(True, description="Double DQN: the online network chooses the next action.")
    clip_norm: float = Field(5.0, ge=0, description="Largest norm of a gradient; 0: not clipped.")


class JointConfig(Section):
    """Tools tuned on the agent's chains."""

    steps: int = Field(200_000, ge=0, description="Most steps; 0: no joint tuning.")
    batch: int = Field(64, ge=1, description="Images per step.")
    learning_rate: float = Field(1e-4, gt=0, description="Of Adam.")
    one_cycle: bool = Field(False, description="It rises to that and falls to 0, once; otherwise it stays.")
    clip_norm: float = Field(0.5, ge=0, description="Largest norm of a tool's gradient; 0: not clipped.")
    look_every: int = Field(2_000, ge=1, description="Steps between looks at other episodes.")
    look_episodes: int = Field(96, ge=3, description="Episodes of a look, of all severities.")
    least_gain: float = Field(0.02, ge=0, description="Decibels that count as progress.")
    patience: int = Field(6, ge=1, description="Looks without progress after which it ends, unless in one cycle.")


class MeasureConfig(Section):
    """The gate before the agent, and the ladder at the end."""

    gate_states: int = Field(500, ge=1, description="Images in mid-chain, on which every tool has to prove itself.")
    gate_share: float = Field(0.05, ge=0, le=1, description="Share of them that every tool must help.")
    gate_gain: float = Field(1.0, description="Decibels that the greedy oracle must gain.")
    episodes: int = Field(500, ge=1, description="Held-out episodes per severity.")
    search_episodes: int = Field(64, ge=1, description="Of them, how many are searched in full.")


class ToolboxConfig(Section):
    """A whole toolbox. The defaults are the paper's."""

    preset: Literal["toolbox", "toolbox-small", "rain-box"] = Field("toolbox", description="Base of all other fields.")
    clean: Path | None = Field(None, description="Folder of clean photographs, at least 20 of at least 96 pixels.")
    seed: int = Field(0, ge=0, description="Seed of everything that is drawn.")
    device: str = Field("auto", pattern=PATTERN, description=f"{ALLOWED}.")
    save_minutes: float = Field(2.0, ge=0, description="Minutes between checkpoints.")
    tools: tuple[ToolConfig, ...] = Field((), description="The tools, in the order of the agent's actions.")
    damage: DamageConfig = Field(default_factory=DamageConfig)
    fit: FitConfig = Field(default_factory=FitConfig)
    agent: AgentConfig = Field(default_factory=AgentConfig)
    joint: JointConfig = Field(default_factory=JointConfig)
    measure: MeasureConfig = Field(default_factory=MeasureConfig)

    def __init__(self, **given: Any) -> None:
        base = TOOLBOX_PRESETS.get(str(given.get("preset", "toolbox")), {})
        super().__init__(**merge(base, given))

    @model_validator(mode="after")
    def _names(self) -> ToolboxConfig:
        names = [tool.name for tool in self.tools]
        if not names:
            raise ValueError("tools: a toolbox needs at least one")
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"tools: two of them are called {min(twice)}")
        return self


def load_toolbox_config(source: ToolboxConfig | Mapping[str, Any] | str | Path) -> ToolboxConfig:
    """Read the configuration of a toolbox from an object, a dict of its fields, or a YAML file.

    Raises:
        UserError: an unknown or ill-typed field, or a file that cannot be read; the message names it.
    """
    if isinstance(source, ToolboxConfig):
        return source.model_copy(deep=True)
    fields = read_yaml(Path(source)) if isinstance(source, (str, Path)) else dict(source)
    try:
        return ToolboxConfig.model_validate(fields)
    except ValidationError as error:
        raise UserError(explain(error).replace("rgsud-fast train --help", "docs/toolbox.md")) from None
