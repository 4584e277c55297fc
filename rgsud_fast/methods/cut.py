"""CUT as a deraining method: one translator, whose patches stay like those they come from, and a judge of clean images.

B_r = G(O_r); G is the derainer. It has no rain branch, so nothing is painted. Formula: Park et al., ECCV 2020; FastCUT
is `cut.contrast 10` with `cut.contrast_identity 0` and `cut.mirror`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Config
from ..errors import UserError
from ..networks.projector import Projector
from ..networks.translators import SCALE
from . import losses
from .domains import raw_domains
from .guidance import NO_GUIDANCE, Guidance
from .method import Inputs, Judged, Step, Terms, judge_losses, reinforcement, weigh, weighted_by
from .translation import feature_channels, feature_places, translators_and_judges

NAME = "cut"
TOGETHER: tuple[str, ...] = ("derainer", "projector")
JUDGES: tuple[str, ...] = ("clean_judge",)
warm = raw_domains(JUDGES)


class Networks(NamedTuple):
    """The three networks in training."""

    derainer: nn.Module
    projector: nn.Module
    clean_judge: nn.Module


def build(config: Config, derainer: nn.Module | None = None) -> Networks:
    """The translator, the judge and the projector, their weights drawn in this order.

    Raises:
        UserError: the user's own derainer has no place here, whose features are compared; or the crops cannot be
            mirrored.
    """
    if config.cut.mirror and config.crop % SCALE:
        raise UserError(f"cut.mirror needs a crop of a multiple of {SCALE}, got {config.crop}")
    translator, clean_judge = translators_and_judges(config, config.cut, 1, derainer)
    return Networks(translator, Projector(feature_channels(config.cut), config.cut.projector), clean_judge)


def trained(config: Config) -> tuple[str, ...]:
    """All three."""
    return Networks._fields


def reads(config: Config) -> frozenset[str]:
    """The inputs of `step` in stage 1."""
    return frozenset({"rainy", "clean", "clean_reals"})


def draws(config: Config) -> dict[str, tuple[int, Sequence[int]]]:
    """The places that are compared, in each layer of `Translator.features`; and whether the step is mirrored."""
    places: dict[str, tuple[int, Sequence[int]]] = {"places": feature_places(config, config.cut)}
    return places | ({"mirrored": (1, [2])} if config.cut.mirror else {})


def step(nets: Networks, stage: int, inputs: Inputs, config: Config, guidance: Guidance = NO_GUIDANCE) -> Step:
    """The contrasts of rainy with derained and of clean with its translation; in stage 2 also the reward loss."""
    rainy, clean, mirrored = inputs["rainy"], inputs["clean"], inputs.get("mirrored")
    made = nets.derainer(turn(torch.cat([rainy, clean]), mirrored))
    derained, same = made.split([len(rainy), len(clean)])
    terms = {"adversarial": losses.lsgan(nets.clean_judge(derained), 1.0)}
    pairs = {"contrast": (rainy, derained), "contrast_identity": (clean, same)}
    for name, (before, after) in pairs.items():
        if getattr(config.cut, name):
            terms[name] = contrast(nets, before, after, inputs["places"], config.cut.temperature, mirrored)
    terms |= reinforcement(inputs, turn(derained, mirrored), config, guidance)
    return Step(weigh(weighted(terms, config)), terms, {"clean_judge": Judged(inputs["clean_reals"], derained)})


def turn(images: Tensor, mirrored: Tensor | None) -> Tensor:
    """Images or features, [N, C, H, W], mirrored left to right where `mirrored`, [1, 1], is 1; the device decides."""
    return images if mirrored is None else torch.where(mirrored == 1, images.flip(3), images)


def contrast(
    nets: Any, before: Tensor, after: Tensor, places: Tensor, temperature: float, mirrored: Tensor | None = None
) -> Tensor:
    """PatchNCE: each place of `after` is told from the others of its image by what is at that place `before`.

    Mean over layers, images and places of cross-entropy of q k^T / T with the place itself as the target, where q are
    the features after, `turn`ed, and k, without gradient, those before.
    """
    queries = nets.projector([turn(layer, mirrored) for layer in nets.derainer.features(after)], places)
    with torch.no_grad():
        keys = nets.projector(nets.derainer.features(before), places)
    return layered_nce(queries, keys, temperature)


def layered_nce(queries: Sequence[Tensor], keys: Sequence[Tensor], temperature: float) -> Tensor:
    """The mean of `patch_nce` over layers."""
    return cast(Tensor, sum(patch_nce(q, k, temperature) for q, k in zip(queries, keys, strict=True)) / len(queries))


def patch_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of q k^T / T, [N, P, C] each of length 1, with target i for row i."""
    logits = queries.float() @ keys.float().transpose(1, 2) / temperature
    targets = torch.arange(logits.shape[1], device=logits.device).expand(logits.shape[:2])
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def weighted(terms: Terms, config: Config) -> Terms:
    """The terms times their weights."""
    return weighted_by(terms, config.cut.model_dump(), config.loss)


def judge(nets: Networks, judged: Mapping[str, Judged], config: Config) -> Terms:
    """The judge's loss."""
    return judge_losses(nets, judged)
