"""The seam between a method and what trains it.

A method is a module, or any object, with what `Method` names: constants and pure functions. It draws nothing, steps no
optimiser, writes no file and knows no trainer. Sweeps, pool, guards, resume, several processes, export, page and
gallery ask nothing more of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, cast, runtime_checkable

from torch import Tensor, nn

from ..config import Config, LossConfig
from . import losses
from .guidance import NO_GUIDANCE, Guidance, reward_terms

Inputs: TypeAlias = dict[str, Tensor]
Terms: TypeAlias = dict[str, Tensor]
# What a method may read of an iteration, beside `rewards`, `improved` and `rewarded`, which stage 2 has.
READS = ("rainy", "clean", "reals", "clean_reals", "pasted", "labelled")


class Judged(NamedTuple):
    """What one judge is shown, [N, 3, H, W] each; the two may differ in N."""

    real: Tensor
    fake: Tensor


class Step(NamedTuple):
    """What one iteration computed."""

    loss: Tensor  # scalar, to be minimised by the networks of TOGETHER
    terms: Terms  # the unweighted terms, scalars
    judged: dict[str, Judged]  # by judge; a judge that is left out does not learn


@runtime_checkable
class Method(Protocol):
    """What a method gives. Its networks are a NamedTuple, of which one is the `derainer`: [N, 3, H, W] -> the same."""

    NAME: str  # metadata and checkpoints hold it
    TOGETHER: tuple[str, ...]  # networks trained by the loss of a step, the derainer among them
    JUDGES: tuple[str, ...]  # networks trained by what they are shown

    def build(self, config: Config, derainer: nn.Module | None = None) -> Any:
        """The networks, a NamedTuple, their weights drawn in its order; `derainer` is one of the user's own.

        Raises:
            UserError: the method takes none.
        """

    def trained(self, config: Config) -> tuple[str, ...]:
        """The networks that take part; the others are neither trained nor saved."""

    def reads(self, config: Config) -> frozenset[str]:
        """Which of READS the step reads in stage 1; in stage 2 it may read `rainy` besides."""

    def step(self, nets: Any, stage: int, inputs: Inputs, config: Config, guidance: Guidance = NO_GUIDANCE) -> Step:
        """The loss of one iteration on the crops of `training.Feed.images`; `guidance` is for `reinforcement`."""

    def weighted(self, terms: Terms, config: Config) -> Terms:
        """The terms times their weights; what shares a weight is one."""

    def judge(self, nets: Any, judged: Mapping[str, Judged], config: Config) -> Terms:
        """The loss of each judge on what it is shown; no gradient goes to what made it."""

    def warm(self, inputs: Inputs) -> dict[str, Judged]:
        """What judges are shown before the first step, when nothing is painted yet: the two domains."""


NEEDED = ("NAME", "TOGETHER", "JUDGES", "build", "trained", "reads", "step", "weighted", "judge", "warm")


@runtime_checkable
class Drawing(Protocol):
    """What a method gives beside `Method` whose step needs numbers drawn."""

    def draws(self, config: Config) -> dict[str, tuple[int, Sequence[int]]]:
        """Inputs of the step by name: how many distinct places, below each of these bounds.

        They come as int64 [bounds, places], the same on every process, a function of seed and step alone.
        """


class Pace(NamedTuple):
    """How the Adam of a network differs from that of `optim`."""

    ratio: float  # of its learning rate to the rest's
    betas: tuple[float, float]


@runtime_checkable
class Paced(Protocol):
    """What a method gives beside `Method` of which some networks learn at a pace of their own."""

    def paces(self, config: Config) -> dict[str, Pace]:
        """Those networks."""


@runtime_checkable
class Painter(Protocol):
    """What a method gives beside `Method` that can lay the rain of one photograph on another."""

    PAINTERS: tuple[str, ...]  # networks that `paint` uses

    def rain_from(self, config: Config, switched: bool) -> str:
        """The network whose clean estimate of the rainy image `paint` goes by; `switched`: by now rewards'."""

    def paint(self, nets: Mapping[str, nn.Module], clean: Tensor, rainy: Tensor, estimate: Tensor) -> Tensor:
        """The rain of `rainy`, whose clean estimate is `estimate`, on other scenes, [N, 3, H, W] each -> the same."""


def weigh(weighted: Terms) -> Tensor:
    """The sum of weighted terms."""
    return cast(Tensor, sum(weighted.values()))


def weighted_by(terms: Terms, weights: Mapping[str, Any], loss: LossConfig) -> Terms:
    """The terms times the weights of a method's section; those of `reinforcement` by the shared ones."""
    shared = {"reward": loss.reward, "reward_gradient": loss.reward_gradient}
    return {name: {**weights, **shared}[name] * term for name, term in terms.items()}


def reinforcement(inputs: Inputs, derained: Tensor, config: Config, guidance: Guidance = NO_GUIDANCE) -> Terms:
    """The terms that draw the derainer to its rewards, in any method: {} where the step has no rewards."""
    if "rewards" not in inputs:
        return {}
    given = inputs["rainy"], derained, inputs["rewards"], inputs["improved"]
    return reward_terms(*given, config.loss, inputs.get("rewarded"), guidance)


def judge_losses(
    nets: Any, judged: Mapping[str, Judged], loss: Callable[[nn.Module, Tensor, Tensor], Tensor] = losses.judge_loss
) -> Terms:
    """The loss of each judge on what it is shown."""
    return {name: loss(getattr(nets, name), *shown) for name, shown in judged.items()}
