"""What methods share whose judges are of a domain each, `clean_judge` and `rainy_judge`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ..config import Config
from . import losses
from .method import Inputs, Judged


def lesson(made: Tensor, wanted: Tensor, inputs: Inputs, error: Callable[..., Tensor] = losses.masked_l1) -> Tensor:
    """How far what a network made of the rewards, or of what they say, is from what it should be, over all ranks.

    [N, C, H, W] twice -> scalar; images without a reward count for nothing. `error` is `losses.masked_l1` or `_l2`.
    """
    return error(made, wanted, inputs["improved"], inputs.get("rewarded"))


_DOMAINS = {"clean_judge": ("clean", "rainy"), "rainy_judge": ("rainy", "clean")}


def raw_domains(judges: Sequence[str]) -> Callable[[Inputs], dict[str, Judged]]:
    """A method's `warm` where each judge is of a domain: that against the other."""

    def warm(inputs: Inputs) -> dict[str, Judged]:
        return {name: Judged(*(inputs[domain] for domain in _DOMAINS[name])) for name in judges}

    return warm


def without_estimate(config: Config, switched: bool) -> str:
    """A painter's `rain_from` where `paint` asks for no estimate: the derainer, which every method has."""
    return "derainer"


def reads_both(config: Config) -> frozenset[str]:
    """The inputs of a step in stage 1 with a judge of each domain."""
    return frozenset({"rainy", "clean", "reals", "clean_reals"})


def shown_to_both(inputs: Inputs, derained: Tensor, painted: Tensor) -> dict[str, Judged]:
    """What the judge of each domain is shown."""
    return {
        "clean_judge": Judged(inputs["clean_reals"], derained),
        "rainy_judge": Judged(inputs["reals"], painted),
    }
