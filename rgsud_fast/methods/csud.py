"""CSUD as a deraining method: a transfer network paints the rain of a whole rainy image, and a judge of rainy images.

In the letters of `rgsud`: B_r = Der(O_r), O_u1 = T(B_u, O_r), B_u1 = Der(O_u1), O_r1 = T(B_r, O_r),
O_r2 = T(B_r, O_u1), O_u2 = T(B_u1, O_u1). The guide of T is a rainy image, not a residual, and a clean one brings no
rain. Formula: CVPR 2025, without its VGG term.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Config
from ..networks import Discriminator, NAFNet, initialize
from ..networks.known import configured_derainer
from ..networks.transfer import Transfer
from . import losses
from .domains import lesson, raw_domains, without_estimate
from .guidance import NO_GUIDANCE, Guidance
from .method import Inputs, Judged, Step, Terms, judge_losses, reinforcement, weigh, weighted_by
from .pasting import derain

NAME = "csud"
TOGETHER: tuple[str, ...] = ("derainer", "transfer")
JUDGES: tuple[str, ...] = ("rainy_judge",)
PAINTERS: tuple[str, ...] = ("transfer",)
warm, rain_from = raw_domains(JUDGES), without_estimate


class Networks(NamedTuple):
    """The three networks in training."""

    derainer: nn.Module
    transfer: nn.Module
    rainy_judge: nn.Module


def build(config: Config, derainer: nn.Module | None = None) -> Networks:
    """The three networks, their weights drawn in this order.

    T keeps PyTorch's first weights, as published: scaled by fan-in its first step of Adam changes images fivefold.
    """
    sizes = config.csud
    transfer = Transfer(sizes.width, sizes.blocks, sizes.residual)
    own = configured_derainer(config.network) if derainer is None else derainer
    if sizes.residual and derainer is None and isinstance(own, NAFNet):  # others begin so anyhow
        own.last.weight.data.mul_(config.network.last_gain)
    nets = Networks(own, transfer, Discriminator(sizes.judge_width))
    initialize([nets.rainy_judge], config.network.initialization)
    transfer.start_near_identity()
    return nets


def trained(config: Config) -> tuple[str, ...]:
    """All three."""
    return Networks._fields


def reads(config: Config) -> frozenset[str]:
    """The inputs of `step` in stage 1."""
    return frozenset({"rainy", "clean", "reals"})


def step(nets: Networks, stage: int, inputs: Inputs, config: Config, guidance: Guidance = NO_GUIDANCE) -> Step:
    """Four painted images, a pseudo pair, three clean guides; in stage 2 also the reward loss.

    With `reward.switch` stage 2 also teaches T(B_rw, O_r) = O_r.
    """
    rainy, clean, weights = inputs["rainy"], inputs["clean"], config.csud
    switched = stage == 2 and config.reward.switch and weights.switch
    pseudo_rainy = _transfer(nets, (clean, rainy))[0]
    derained, pseudo_derained = derain(nets.derainer, rainy, pseudo_rainy.detach())
    pairs = [(derained, rainy), (derained, pseudo_rainy), (pseudo_derained, pseudo_rainy)]
    pairs += [(clean, clean), (clean, derained), (clean, pseudo_derained)]
    pairs += [(inputs["rewards"], rainy)] if switched else []
    made = _transfer(nets, *pairs)  # of one size, and nothing in T looks across images

    from_itself, from_derained, from_pseudo = (F.l1_loss(same, clean) for same in made[3:6])
    terms = {
        "adversarial": 4 * losses.lsgan(nets.rainy_judge(torch.cat([pseudo_rainy, *made[:3]])), 1.0),
        "channel_consistency": losses.channel_consistency(pseudo_rainy, clean),
        "clean_guides": from_itself + from_derained,
        "pair": F.l1_loss(pseudo_derained, clean),
        "structure": losses.structure(pseudo_derained, clean),
        "derained_guides": from_pseudo + from_derained,
    }
    if weights.background_guidance:
        terms["background_guidance"] = losses.background_guidance(pseudo_rainy, clean)
    terms |= reinforcement(inputs, derained, config, guidance)
    if switched:
        terms["switch"] = lesson(made[6], rainy, inputs)
    judged = {"rainy_judge": Judged(inputs["reals"], pseudo_rainy)}
    return Step(weigh(weighted(terms, config)), terms, judged)


def _transfer(nets: Networks, *pairs: tuple[Tensor, Tensor]) -> list[Tensor]:
    """T of pairs of a clean image and a guide, [N, 3, H, W] each, in one call."""
    scenes = torch.cat([torch.cat(pair, dim=1) for pair in pairs])
    return list(nets.transfer(scenes).chunk(len(pairs)))


def weighted(terms: Terms, config: Config) -> Terms:
    """The terms times their weights."""
    return weighted_by(terms, config.csud.model_dump(), config.loss)


def judge(nets: Networks, judged: Mapping[str, Judged], config: Config) -> Terms:
    """The judge's loss, not halved."""
    return {name: 2 * loss for name, loss in judge_losses(nets, judged).items()}


def paint(nets: Mapping[str, nn.Module], clean: Tensor, rainy: Tensor, estimate: Tensor) -> Tensor:
    """T(clean, rainy)."""
    return nets["transfer"](torch.cat([clean, rainy], dim=1))
