"""CycleGAN as a deraining method: rainy to clean and back, clean to rainy and back, a judge of each domain.

In the letters of `rgsud`: B_r = G(O_r), O_u1 = F(B_u); G is the derainer, F the painter, which paints whatever rain it
has learned and needs no rainy image. Formula: Zhu et al., ICCV 2017; each judge's loss is halved, as in its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Config
from . import losses
from .domains import lesson, raw_domains, reads_both, shown_to_both, without_estimate
from .guidance import NO_GUIDANCE, Guidance
from .method import Inputs, Judged, Step, Terms, judge_losses, reinforcement, weigh, weighted_by
from .translation import translators_and_judges

NAME = "cyclegan"
TOGETHER: tuple[str, ...] = ("derainer", "painter")
JUDGES: tuple[str, ...] = ("clean_judge", "rainy_judge")
PAINTERS: tuple[str, ...] = ("painter",)
reads, warm, rain_from = reads_both, raw_domains(JUDGES), without_estimate


class Networks(NamedTuple):
    """The four networks in training."""

    derainer: nn.Module
    painter: nn.Module
    clean_judge: nn.Module
    rainy_judge: nn.Module


def build(config: Config, derainer: nn.Module | None = None) -> Networks:
    """The four networks, their weights drawn in this order.

    Raises:
        UserError: the user's own derainer has no place here, where cycles ask for a translator.
    """
    return Networks(*translators_and_judges(config, config.cyclegan, 2, derainer))


def trained(config: Config) -> tuple[str, ...]:
    """All four."""
    return Networks._fields


def step(nets: Networks, stage: int, inputs: Inputs, config: Config, guidance: Guidance = NO_GUIDANCE) -> Step:
    """Both cycles; in stage 2 also the reward loss, and with `reward.switch` F is taught F(B_rw) = O_r."""
    rainy, clean = inputs["rainy"], inputs["clean"]
    derained, painted = nets.derainer(rainy), nets.painter(clean)
    terms = {
        "adversarial": losses.lsgan(nets.clean_judge(derained), 1.0) + losses.lsgan(nets.rainy_judge(painted), 1.0),
        "cycle": F.l1_loss(nets.painter(derained), rainy) + F.l1_loss(nets.derainer(painted), clean),
    }
    if config.cyclegan.identity:
        terms["identity"] = F.l1_loss(nets.derainer(clean), clean) + F.l1_loss(nets.painter(rainy), rainy)
    terms |= reinforcement(inputs, derained, config, guidance)
    if stage == 2 and config.reward.switch:
        again = nets.painter(inputs["rewards"])
        terms["switch"] = lesson(again, rainy, inputs)
    return Step(weigh(weighted(terms, config)), terms, shown_to_both(inputs, derained, painted))


def weighted(terms: Terms, config: Config) -> Terms:
    """The terms times their weights; the switch has the cycle's."""
    weights = config.cyclegan.model_dump() | {"switch": config.cyclegan.cycle}
    return weighted_by(terms, weights, config.loss)


def judge(nets: Networks, judged: Mapping[str, Judged], config: Config) -> Terms:
    """Both judges' losses."""
    return judge_losses(nets, judged)


def paint(nets: Mapping[str, nn.Module], clean: Tensor, rainy: Tensor, estimate: Tensor) -> Tensor:
    """F(clean), whatever rain the photograph has."""
    return nets["painter"](clean)
