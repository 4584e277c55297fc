"""NLCL as a deraining method: one network makes the background of a rainy image, another its rain layer.

B_r = the background, R = the rain layer, both of O_r alone; patches of the background stay like those of the rainy
image among others of like content, and are told from patches of the rain layer. Formula: Ye et al., CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Config
from ..errors import UserError
from ..networks import Discriminator, initialize
from ..networks.projector import Projector
from ..networks.separators import Separator, compared_layers
from . import losses
from .cut import patch_nce
from .domains import lesson, raw_domains, without_estimate
from .guidance import NO_GUIDANCE, Guidance
from .method import Inputs, Judged, Step, Terms, judge_losses, reinforcement, weigh, weighted_by
from .non_local import near_places, places_in, supervised_contrast

NAME = "nlcl"
TOGETHER: tuple[str, ...] = ("derainer", "rain_separator", "projector", "background_projector", "rain_projector")
JUDGES: tuple[str, ...] = ("clean_judge",)
PAINTERS: tuple[str, ...] = ("rain_separator",)
SEARCHES = 4  # of a step: in features of the rainy and of the clean image, in the background and in the rain layer
warm, rain_from = raw_domains(JUDGES), without_estimate


class Networks(NamedTuple):
    """The six networks in training."""

    derainer: nn.Module
    rain_separator: nn.Module
    projector: nn.Module
    background_projector: nn.Module
    rain_projector: nn.Module
    clean_judge: nn.Module


def build(config: Config, derainer: nn.Module | None = None) -> Networks:
    """The six networks, their weights drawn in this order.

    Raises:
        UserError: the user's own derainer has no place here, whose features are compared, or the crops are too small.
    """
    if derainer is not None:
        raise UserError("method nlcl derains by its own separator: leave derainer= out, or take method rgsud")
    sizes = config.nlcl
    if config.crop < sizes.patch + sizes.reach:
        raise UserError(
            f"crop {config.crop} holds no place within {sizes.reach} pixels: lower nlcl.reach or nlcl.patch"
        )
    shape = (sizes.width, sizes.blocks, sizes.residual)
    background, rain = Separator(*shape), Separator(*shape, rain=True)
    channels = [3, *(sizes.judge_width * 2**level for level in range(4))][: sizes.judge_layers]
    nets = Networks(
        background,
        rain,
        Projector([sizes.width] * len(compared_layers(sizes.blocks)), sizes.projector),
        Projector(channels, sizes.projector),
        Projector(channels, sizes.projector),
        Discriminator(sizes.judge_width, sizes.high_pass, sizes.antialias),
    )
    how = config.network.initialization
    initialize([nets.clean_judge] if how == "xavier" else [background, rain, nets.clean_judge], how)  # as published
    for separator in (background, rain):
        separator.start_near_identity()
    return nets


def trained(config: Config) -> tuple[str, ...]:
    """All six."""
    return Networks._fields


def reads(config: Config) -> frozenset[str]:
    """The inputs of `step` in stage 1."""
    return frozenset({"rainy", "clean", "clean_reals"})


def draws(config: Config) -> dict[str, tuple[int, Sequence[int]]]:
    """The patch that each search starts from, the same in all images of a step."""
    return {"corners": (1, [(config.crop - config.nlcl.patch + 1) ** 2] * SEARCHES)}


def step(nets: Any, stage: int, inputs: Inputs, config: Config, guidance: Guidance = NO_GUIDANCE) -> Step:
    """Both contrasts and what background and rain layer should add up to; in stage 2 also the reward loss.

    With `reward.switch` the rain layer is taught R = O_r - B_rw.
    """
    rainy, clean, corners, weights = inputs["rainy"], inputs["clean"], inputs["corners"], config.nlcl
    derained, same = nets.derainer(torch.cat([rainy, clean])).split([len(rainy), len(clean)])
    rain = nets.rain_separator(rainy)
    terms = {
        "adversarial": losses.lsgan(nets.clean_judge(derained), 1.0),
        "sum": (derained + rain - rainy).square().mean(),
        "background": F.l1_loss(derained, rainy),
    }
    if weights.contrast:
        terms["contrast"] = location_contrast(nets, rainy, derained, corners[0], config)
    if weights.contrast_identity:
        terms["contrast_identity"] = location_contrast(nets, clean, same, corners[1], config)
    if weights.layers:
        terms["layers"] = layer_contrast(nets, derained, rain, corners[2:], config)
    if weights.pair:
        terms["pair"] = F.l1_loss(nets.derainer((clean + rain).detach()), clean)
    terms |= reinforcement(inputs, derained, config, guidance)
    if stage == 2 and config.reward.switch and weights.switch:
        terms["switch"] = lesson(rain, rainy - inputs["rewards"], inputs, losses.masked_l2)
    return Step(weigh(weighted(terms, config)), terms, {"clean_judge": Judged(inputs["clean_reals"], derained)})


def location_contrast(nets: Any, before: Tensor, after: Tensor, corner: Tensor, config: Config) -> Tensor:
    """PatchNCE (see `cut.contrast`) at places of like content in the first layer of `before`; mean over layers."""
    sizes = config.nlcl
    queries = nets.derainer.features(after)
    with torch.no_grad():
        keys = nets.derainer.features(before)
        found = near_places(keys[0], corner[0], sizes.patch, sizes.reach, sizes.patches)
        places = places_in(keys, found, *before.shape[2:])
        wanted = nets.projector(keys, places)
    each = [patch_nce(q, k, sizes.temperature) for q, k in zip(nets.projector(queries, places), wanted, strict=True)]
    return torch.stack(each).mean()


def layer_contrast(nets: Any, background: Tensor, rain: Tensor, corners: Tensor, config: Config) -> Tensor:
    """`supervised_contrast` of background and rain layer by the judge's features, each at places of like content.

    The judge sees a rain layer around mid-grey, as the published one, whose images are in [-1, 1]. Mean over layers.
    """
    sizes = config.nlcl
    shown = (
        (background, sizes.background_patches, nets.background_projector, corners[0]),
        (rain + 0.5, sizes.rain_patches, nets.rain_projector, corners[1]),
    )
    vectors = []
    for image, count, projector, corner in shown:
        features = nets.clean_judge.features(image)[: sizes.judge_layers]
        found = near_places(image, corner[0], sizes.patch, sizes.reach, count)
        vectors.append(projector(features, places_in(features, found, *image.shape[2:])))
    each = [supervised_contrast(one, other, sizes.temperature) for one, other in zip(*vectors, strict=True)]
    return torch.stack(each).mean()


def weighted(terms: Terms, config: Config) -> Terms:
    """The terms times their weights."""
    return weighted_by(terms, config.nlcl.model_dump(), config.loss)


def judge(nets: Any, judged: Mapping[str, Judged], config: Config) -> Terms:
    """The judge's loss."""
    return judge_losses(nets, judged)


def paint(nets: Mapping[str, Any], clean: Tensor, rainy: Tensor, estimate: Tensor) -> Tensor:
    """The rain layer of `rainy`, added."""
    return clean + nets["rain_separator"](rainy)
