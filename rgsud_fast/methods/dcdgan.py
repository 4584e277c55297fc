"""DCD-GAN as a deraining method: CycleGAN's networks, held by contrasts of patches across both translators.

In the letters of `rgsud`: B_r = G(O_r), O_u1 = F(B_u); G is the derainer, F the painter, which paints whatever rain it
has learned. Formula: Chen et al., CVPR 2022, as its code trains; what that computes and never adds has weight 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Config
from ..networks.projector import Projector
from . import cyclegan, losses
from .cut import layered_nce
from .domains import lesson, shown_to_both
from .guidance import NO_GUIDANCE, Guidance
from .method import Inputs, Judged, Pace, Step, Terms, judge_losses, reinforcement, weigh, weighted_by
from .translation import feature_channels, feature_places, translators_and_judges

NAME = "dcdgan"
TOGETHER: tuple[str, ...] = ("derainer", "painter", "projector", "painter_projector")
JUDGES: tuple[str, ...] = ("clean_judge", "rainy_judge")
PAINTERS = cyclegan.PAINTERS
reads, warm, rain_from, paint = cyclegan.reads, cyclegan.warm, cyclegan.rain_from, cyclegan.paint
FIRST_LAYER = 1  # of `Translator.features`: the image itself is not compared


class Networks(NamedTuple):
    """The six networks in training; a projector belongs to the translator whose features it takes."""

    derainer: nn.Module
    painter: nn.Module
    projector: nn.Module
    painter_projector: nn.Module
    clean_judge: nn.Module
    rainy_judge: nn.Module


def build(config: Config, derainer: nn.Module | None = None) -> Networks:
    """The translators, judges and projectors, their weights drawn in this order.

    Raises:
        UserError: the user's own derainer has no place here, whose features are compared.
    """
    sizes = config.dcdgan
    translator, painter, *judges = translators_and_judges(config, sizes, 2, derainer)
    channels = feature_channels(sizes)[FIRST_LAYER:]
    projectors = [Projector(channels, sizes.projector) for _ in judges]
    return Networks(translator, painter, *projectors, *judges)


def trained(config: Config) -> tuple[str, ...]:
    """All six."""
    return Networks._fields


def draws(config: Config) -> dict[str, tuple[int, Sequence[int]]]:
    """The places that are compared, in each layer."""
    return {"places": feature_places(config, config.dcdgan, FIRST_LAYER)}


def paces(config: Config) -> dict[str, Pace]:
    """The projectors' own rate and moments."""
    own = Pace(config.dcdgan.projector_ratio, config.dcdgan.projector_betas)
    return {"projector": own, "painter_projector": own}


def step(nets: Networks, stage: int, inputs: Inputs, config: Config, guidance: Guidance = NO_GUIDANCE) -> Step:
    """Both translations and their contrasts; in stage 2 also the reward loss.

    With `reward.switch` stage 2 also teaches F(B_rw) = O_r.
    """
    rainy, clean, weights = inputs["rainy"], inputs["clean"], config.dcdgan
    derained, painted = nets.derainer(rainy), nets.painter(clean)
    terms = {
        "adversarial": losses.hinge(nets.clean_judge(derained), 1.0) + losses.hinge(nets.rainy_judge(painted), 1.0),
        "contrast": contrast(nets, rainy, derained, clean, painted, inputs["places"], weights.temperature),
    }
    if weights.identity:
        terms["identity"] = F.l1_loss(nets.derainer(clean), clean) + F.l1_loss(nets.painter(rainy), rainy)
    if weights.cycle:
        terms["cycle"] = F.l1_loss(nets.painter(derained), rainy) + F.l1_loss(nets.derainer(painted), clean)
    if weights.unpaired:
        terms["unpaired"] = F.l1_loss(derained, clean) + F.l1_loss(painted, rainy)
    if weights.frequency:
        terms["frequency"] = frequency(derained, clean) + frequency(painted, rainy)
    terms |= reinforcement(inputs, derained, config, guidance)
    if stage == 2 and config.reward.switch and weights.switch:
        again = nets.painter(inputs["rewards"])
        terms["switch"] = lesson(again, rainy, inputs)
    return Step(weigh(weighted(terms, config)), terms, shown_to_both(inputs, derained, painted))


def contrast(
    nets: Any, rainy: Tensor, derained: Tensor, clean: Tensor, painted: Tensor, places: Tensor, temperature: float
) -> Tensor:
    """The sum of both translations' `cut.patch_nce`, where what is translated is seen by the other translator.

    G(O_r) in F's features is told by O_r in G's, and F(B_u) in G's features by B_u in F's; keys have no gradient.
    """

    def by_derainer(image: Tensor) -> list[Tensor]:
        made: list[Tensor] = nets.projector(nets.derainer.features(image)[FIRST_LAYER:], places)
        return made

    def by_painter(image: Tensor) -> list[Tensor]:
        made: list[Tensor] = nets.painter_projector(nets.painter.features(image)[FIRST_LAYER:], places)
        return made

    with torch.no_grad():
        keys, painter_keys = by_derainer(rainy), by_painter(clean)
    forth = layered_nce(by_painter(derained), keys, temperature)
    return forth + layered_nce(by_derainer(painted), painter_keys, temperature)


def frequency(made: Tensor, other: Tensor) -> Tensor:
    """Mean over images of the sum of |FFT(made - other)|^2 over channels and half the spectrum."""
    return torch.fft.rfft2((made - other).float()).abs().square().sum(dim=(1, 2, 3)).mean()


def weighted(terms: Terms, config: Config) -> Terms:
    """The terms times their weights."""
    return weighted_by(terms, config.dcdgan.model_dump(), config.loss)


def judge(nets: Networks, judged: Mapping[str, Judged], config: Config) -> Terms:
    """Both judges' hinge losses."""
    return judge_losses(nets, judged, losses.hinge_judge_loss)
