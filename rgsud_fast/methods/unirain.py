"""UniRain's training: one derainer on labelled pairs of all types of rain, each type weighed (CVPR 2026).

L = mean over the crops of w_pair w_type |derainer(rainy) - clean|, the absolute error averaged over a crop's numbers;
`methods.reweighting` says how w_type comes about. With `loss.labelled_form psnr` it is RGSUD's term on such pairs,
L_PSNR weighed alike and L_SSIM: decibels, of which crops of much rain have no more to give than those of little. Beside
unpaired folders stage 2 adds the reward loss, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from ..config import Config
from ..networks.known import configured_derainer
from .guidance import NO_GUIDANCE, Guidance
from .losses import labelled_terms
from .method import Inputs, Judged, Step, Terms, reinforcement, weigh

NAME = "unirain"
TOGETHER: tuple[str, ...] = ("derainer",)
JUDGES: tuple[str, ...] = ()


class Networks(NamedTuple):
    """The one network in training."""

    derainer: nn.Module


def build(config: Config, derainer: nn.Module | None = None) -> Networks:
    """The configured derainer, or the user's own."""
    return Networks(configured_derainer(config.network) if derainer is None else derainer)


def trained(config: Config) -> tuple[str, ...]:
    """The derainer."""
    return Networks._fields


def reads(config: Config) -> frozenset[str]:
    """The inputs of `step` in stage 1."""
    return frozenset({"labelled"})


def step(nets: Networks, stage: int, inputs: Inputs, config: Config, guidance: Guidance = NO_GUIDANCE) -> Step:
    """The weighed error on labelled pairs; in stage 2 also the reward loss where there are rewards."""
    derained = nets.derainer(inputs["labelled"])
    known = inputs["labelled_clean"], inputs["labelled_weights"]
    if config.loss.labelled_form == "l1":
        terms = {"labelled": weighed_error(derained, *known)}
    else:
        terms = labelled_terms(derained, *known, inputs["labelled_floors"])
    if "rewards" in inputs:
        terms |= reinforcement(inputs, nets.derainer(inputs["rainy"]), config, guidance)
    return Step(weigh(weighted(terms, config)), terms, {})


def weighed_error(derained: Tensor, clean: Tensor, weights: Tensor) -> Tensor:
    """Mean over images of weight times mean absolute error, [N, 3, H, W] twice and [N] -> scalar of float32."""
    return (weights * (derained.float() - clean.float()).abs().mean((1, 2, 3))).mean()


def weighted(terms: Terms, config: Config) -> Terms:
    """The terms times their weights."""
    loss = config.loss
    weights = dict.fromkeys(("labelled", "labelled_psnr", "labelled_ssim"), loss.labelled)
    weights |= {"reward": loss.reward, "reward_gradient": loss.reward_gradient}
    return {name: weights[name] * term for name, term in terms.items()}


def judge(nets: Networks, judged: Mapping[str, Judged], config: Config) -> Terms:
    """There is no judge."""
    return {}


def warm(inputs: Inputs) -> dict[str, Judged]:
    """Nobody is shown anything."""
    return {}
