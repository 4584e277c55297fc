"""DerainCycleGAN as a deraining method: CycleGAN whose translators are told where rain is, by one detector.

In the letters of `rgsud`, with M the detector: B_r = G(O_r, M O_r), O_u1 = F(B_u, M B_u). The derainer is G and M in
one network; F is the painter. Formula: Wei et al., TIP 2021, as its code trains; the mask is the light that rain adds,
half of the code's, whose images are in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Config
from ..errors import UserError
from ..networks import Discriminator, initialize
from ..networks.masked_translators import MaskedDerainer, MaskedTranslator
from ..networks.multi_scale import MultiScaleDiscriminator, least_side
from . import losses
from .domains import lesson, raw_domains, reads_both, shown_to_both, without_estimate
from .guidance import NO_GUIDANCE, Guidance
from .method import Inputs, Judged, Step, Terms, judge_losses, reinforcement, weigh, weighted_by

NAME = "deraincyclegan"
TOGETHER: tuple[str, ...] = ("derainer", "painter")
JUDGES: tuple[str, ...] = ("clean_judge", "rainy_judge")
PAINTERS: tuple[str, ...] = ("painter", "derainer")
reads, warm, rain_from = reads_both, raw_domains(JUDGES), without_estimate
NOISE = 0.25  # mean of the uniform noise in [0, 1] of the code's units that the paper draws a rainy image's mask to


class Networks(NamedTuple):
    """The four networks in training."""

    derainer: nn.Module
    painter: nn.Module
    clean_judge: nn.Module
    rainy_judge: nn.Module


def build(config: Config, derainer: nn.Module | None = None) -> Networks:
    """The four networks, their weights drawn in this order.

    Raises:
        UserError: the user's own derainer has no place here, or the crops are too small for the judges' scales.
    """
    if derainer is not None:
        raise UserError("method deraincyclegan has a derainer of its own: leave derainer= out, or take method rgsud")
    sizes = config.deraincyclegan
    if sizes.scales and config.crop < (least := least_side(sizes.scales)):
        raise UserError(
            f"crop {config.crop} is too small for judges of {sizes.scales} scales: give a crop of {least} or more, or "
            "lower deraincyclegan.scales"
        )
    shape = (sizes.width, sizes.around, sizes.dilations, sizes.transposed, sizes.residual)
    made = MaskedDerainer(*shape, sizes.detector_width, sizes.steps, sizes.blocks)
    painter = MaskedTranslator(*shape)
    nets = Networks(made, painter, _judge(config), _judge(config))
    initialize([made.detector, made.translator, *nets[1:]], config.network.initialization)
    made.start_near_identity()
    painter.start_near_identity()
    return nets


def _judge(config: Config) -> nn.Module:
    sizes = config.deraincyclegan
    if sizes.scales:
        return MultiScaleDiscriminator(sizes.judge_width, sizes.scales)
    return Discriminator(sizes.judge_width, sizes.high_pass, sizes.antialias)


def trained(config: Config) -> tuple[str, ...]:
    """All four."""
    return Networks._fields


def step(nets: Any, stage: int, inputs: Inputs, config: Config, guidance: Guidance = NO_GUIDANCE) -> Step:
    """Both cycles and what masks should be; in stage 2 also the reward loss, and with `reward.switch` two lessons.

    These are M O_r = grey mean of O_r - B_rw, and F(B_rw, M O_r) = O_r.
    """
    rainy, clean, weights = inputs["rainy"], inputs["clean"], config.deraincyclegan
    derained, mask = nets.derainer.features(rainy)
    clean_mask = nets.derainer.mask(clean)
    painted = nets.painter(torch.cat([clean, clean_mask], 1))
    rainy_again = nets.painter(torch.cat([derained, nets.derainer.mask(derained)], 1))
    terms = {
        "adversarial": losses.lsgan(nets.clean_judge(derained), 1.0) + losses.lsgan(nets.rainy_judge(painted), 1.0),
        "cycle": F.l1_loss(rainy_again, rainy) + F.l1_loss(nets.derainer(painted), clean),
        "clean_mask": clean_mask.square().mean(),
        "layer": (mask + derained - rainy).square().mean(),
    }
    if weights.rainy_mask:
        # Noise drawn anew in every step has the gradient of its mean, in expectation.
        terms["rainy_mask"] = (mask - NOISE).square().mean()
    terms |= reinforcement(inputs, derained, config, guidance)
    if stage == 2 and config.reward.switch:
        rewards = inputs["rewards"]
        if weights.switch:
            rained = nets.painter(torch.cat([rewards, mask], 1))
            terms["switch"] = lesson(rained, rainy, inputs)
        if weights.switch_mask:
            terms["switch_mask"] = lesson(mask, (rainy - rewards).mean(1, keepdim=True), inputs, losses.masked_l2)
    return Step(weigh(weighted(terms, config)), terms, shown_to_both(inputs, derained, painted))


def weighted(terms: Terms, config: Config) -> Terms:
    """The terms times their weights."""
    return weighted_by(terms, config.deraincyclegan.model_dump(), config.loss)


def judge(nets: Any, judged: Mapping[str, Judged], config: Config) -> Terms:
    """Both judges' losses, the mean over their scales; the translators meet the first scale alone."""
    if not config.deraincyclegan.scales:
        return judge_losses(nets, judged)
    found = {}
    for name, (real, fake) in judged.items():
        scores = getattr(nets, name).features(torch.cat([real, fake.detach()]))
        halves = [scale.split([len(real), len(fake)]) for scale in scores]
        each = [losses.lsgan(on_real, 1.0) + losses.lsgan(on_fake, 0.0) for on_real, on_fake in halves]
        found[name] = torch.stack(each).mean() / 2
    return found


def paint(nets: Mapping[str, Any], clean: Tensor, rainy: Tensor, estimate: Tensor) -> Tensor:
    """F(clean, M rainy)."""
    return nets["painter"](torch.cat([clean, nets["derainer"].mask(rainy)], 1))
