"""One iteration of RGSUD, stage 1 and stage 2, as pure functions of networks, images and loss weights.

Names, in the paper's letters: rainy O_r, clean B_u, derained B_r, pseudo_rainy O_u1, pseudo_derained B_u1,
reward B_rw. Rain information R = O_r - its clean estimate, R' = O_u1 - its clean estimate; the other three synthesised
rainy images are O_r1 = G(B_r, R), O_r2 = G(B_r, R') and O_u2 = G(B_u1, R').
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from ..config import Config, LossConfig
from ..networks import Discriminator, RainGenerator, UNet, initialize
from ..networks.known import configured_derainer
from ..ops import derain_loss, rain_residual
from ..ops.derain_loss import FLOOR
from . import losses
from .deep import check_deep, deep_terms, derain_scales
from .guidance import NO_GUIDANCE, Guidance, reward_terms
from .method import Inputs, Judged, Step, Terms
from .pasting import Pasted, paste, pasted_terms

Two = tuple[Tensor, Tensor]
NAME = "rgsud"
TOGETHER: tuple[str, ...] = ("derainer", "unet", "generator")
JUDGES: tuple[str, ...] = ("discriminator",)
PAINTERS: tuple[str, ...] = ("generator",)


class Networks(NamedTuple):
    """The four networks in training."""

    derainer: nn.Module
    unet: nn.Module
    generator: nn.Module
    discriminator: nn.Module


class StageLoss(NamedTuple):
    """What the networks of TOGETHER learn from in an iteration."""

    loss: Tensor  # scalar, to be minimised by derainer, U-Net and generator
    terms: dict[str, Tensor]  # the unweighted terms, scalars
    fakes: Tensor  # O_u1, O_r1, O_r2, O_u2 stacked, [4N, 3, H, W]; none where the generator is left out


def stage1(
    nets: Networks, rainy: Tensor, clean: Tensor, weights: LossConfig, pasted: Pasted | None = None
) -> StageLoss:
    """Self-supervised training on unpaired images: the clean estimate is the U-Net's.

    Args:
        nets: the networks; the step is not the discriminator's, so pass `inputs=` to backward.
        rainy: rainy crops O_r, [N, 3, H, W] in [0, 1].
        clean: clean crops B_u of other scenes, same shape.
        weights: weights of the loss terms.
        pasted: pairs that the derainer learns from beside the pseudo pair.
    """
    estimate = nets.unet(rainy)
    pseudo_rainy = nets.generator(rain_residual((clean, rainy, estimate)))
    given = rainy, pseudo_rainy.detach(), *_rainy_of(pasted)
    (derained, pseudo_derained, *more), coarse = derain_scales(nets.derainer, weights, *given)
    pseudo_estimate = nets.unet(pseudo_rainy)

    fakes = synthesise(nets, (derained, pseudo_derained), (rainy, estimate), (pseudo_rainy, pseudo_estimate))
    terms = shared_terms(nets, clean, pseudo_rainy, pseudo_derained, fakes, weights)
    terms |= deep_terms(coarse, {1: (clean, FLOOR)} | _pasted_truths(2, pasted, weights))
    if pasted is not None:
        terms |= pasted_terms(more[0], pasted, weights.pasted_floor)
    return StageLoss(weigh(terms, weights), terms, fakes)


def stage2(
    nets: Networks,
    rainy: Tensor,
    clean: Tensor,
    reward: Tensor,
    improved: Tensor,
    weights: LossConfig,
    switch: bool = True,
    rewarded: Tensor | None = None,
    pasted: Pasted | None = None,
    guidance: Guidance = NO_GUIDANCE,
) -> StageLoss:
    """Reward-guided training: the reward is the clean estimate of its rainy image, and a target for the derainer.

    Images without a reward go through the U-Net as in stage 1 and are left out of the reward loss; the U-Net learns
    from them alone.

    Args:
        nets, rainy, clean, weights: as in stage 1.
        reward: reward crops B_rw of the same images, windows and flips as `rainy`, [N, 3, H, W].
        improved: which of the N images have a reward, [N] bool.
        switch: False keeps the U-Net's clean estimate for all images (an ablation of the paper).
        rewarded: see `losses.reward_loss`.
        pasted: as in stage 1.
        guidance: what a score with a map adds.
    """
    switched = (improved & switch)[:, None, None, None]
    estimate = torch.where(switched, reward, nets.unet(rainy))
    pseudo_rainy = nets.generator(rain_residual((clean, rainy, estimate)))
    given = rainy, pseudo_rainy.detach(), *_rainy_of(pasted)
    (derained, pseudo_derained, *more), coarse = derain_scales(nets.derainer, weights, *given)
    pseudo_estimate = torch.where(switched, pseudo_derained.detach(), nets.unet(pseudo_rainy))

    fakes = synthesise(nets, (derained, pseudo_derained), (rainy, estimate), (pseudo_rainy, pseudo_estimate))
    terms = shared_terms(nets, clean, pseudo_rainy, pseudo_derained, fakes, weights)
    terms |= deep_terms(coarse, {1: (clean, FLOOR)} | _pasted_truths(2, pasted, weights))
    terms |= reward_terms(rainy, derained, reward, improved, weights, rewarded, guidance)
    if pasted is not None:
        terms |= pasted_terms(more[0], pasted, weights.pasted_floor)
    return StageLoss(weigh(terms, weights), terms, fakes)


def without_generator(
    nets: Networks,
    weights: LossConfig,
    pasted: Pasted | None,
    rainy: Tensor | None = None,
    reward: Tensor | None = None,
    improved: Tensor | None = None,
    rewarded: Tensor | None = None,
    guidance: Guidance = NO_GUIDANCE,
) -> StageLoss:
    """The loop with the generator left out: rewards give the rain that is pasted, and in stage 2 are targets too.

    Args: as in `stage2`; without `reward` the pasted pairs alone.
    """
    more = [rainy] if rainy is not None and (weights.reward or weights.reward_gradient) else []
    batches, coarse = derain_scales(nets.derainer, weights, *_rainy_of(pasted), *more)
    terms = {} if pasted is None else pasted_terms(batches[0], pasted, weights.pasted_floor)
    terms |= deep_terms(coarse, _pasted_truths(0, pasted, weights))
    if more and reward is not None and improved is not None:
        terms |= reward_terms(more[0], batches[-1], reward, improved, weights, rewarded, guidance)
    return StageLoss(weigh(terms, weights), terms, batches[0][:0])


def synthesise(nets: Networks, backgrounds: Two, real: Two, pseudo: Two) -> Tensor:
    """Stack O_u1 with O_r1, O_r2 and O_u2, which do not depend on one another: one call of G. -> [4N, 3, H, W].

    Args:
        nets: the networks.
        backgrounds: B_r and B_u1.
        real: O_r and its clean estimate, which give R.
        pseudo: O_u1 and its clean estimate, which give R'.
    """
    derained, pseudo_derained = backgrounds
    scenes = (derained, *real), (derained, *pseudo), (pseudo_derained, *pseudo)
    return torch.cat([pseudo[0], nets.generator(rain_residual(*scenes))])


def shared_terms(
    nets: Networks, clean: Tensor, pseudo_rainy: Tensor, pseudo_derained: Tensor, fakes: Tensor, weights: LossConfig
) -> dict[str, Tensor]:
    """The terms that both stages have; an optional term is computed only where its weight is not 0."""
    terms = {"adversarial": 4 * losses.lsgan(nets.discriminator(fakes), 1.0)}  # the sum of four equal-sized means
    terms["pair_psnr"], terms["pair_ssim"] = derain_loss(pseudo_derained, clean)
    if weights.channel_consistency:
        terms["channel_consistency"] = losses.channel_consistency(pseudo_rainy, clean)
    if weights.background_guidance:
        terms["background_guidance"] = losses.background_guidance(pseudo_rainy, clean)
    if weights.self_reconstruction:
        rebuilt = nets.generator(rain_residual((clean, clean, clean)))  # no rain information
        terms["self_reconstruction"] = losses.self_reconstruction(rebuilt, clean)
    return terms


def _pasted_truths(place: int, pasted: Pasted | None, weights: LossConfig) -> dict[int, tuple[Tensor, float]]:
    return {} if pasted is None else {place: (pasted.clean, weights.pasted_floor)}


def _rainy_of(pasted: Pasted | None) -> list[Tensor]:
    return [] if pasted is None else [pasted.rainy]


def weigh(terms: dict[str, Tensor], weights: LossConfig) -> Tensor:
    """The weighted sum of the terms."""
    return cast(Tensor, sum(weighted_terms(terms, weights).values()))


def weighted_terms(terms: dict[str, Tensor], weights: LossConfig) -> dict[str, Tensor]:
    """The terms times their weights, by the weights' fields; both parts of the pair loss share one."""
    sums: dict[str, Tensor] = {}
    for name, term in terms.items():
        field = name.removesuffix("_psnr").removesuffix("_ssim")
        sums[field] = sums.get(field, 0) + term
    return {field: getattr(weights, field) * value for field, value in sums.items()}


def discriminator_loss(nets: Networks, rainy: Tensor, fakes: Tensor) -> Tensor:
    """`losses.judge_loss` of the discriminator; the two batches may differ in size."""
    return losses.judge_loss(nets.discriminator, rainy, fakes)


# What the trainer asks of a method: see `method.Method` and `method.Painter`.


def build(config: Config, derainer: nn.Module | None = None) -> Networks:
    """The four networks, their weights drawn in this order.

    Raises:
        UserError: the derainer lacks what a loss term asks for.
    """
    sizes = config.network
    nets = Networks(
        configured_derainer(sizes) if derainer is None else derainer,
        UNet(sizes.unet_width, sizes.unet_levels),
        RainGenerator(sizes.generator_width, sizes.generator_blocks),
        Discriminator(sizes.discriminator_width),
    )
    initialize(nets[1:], sizes.initialization)
    check_deep(nets.derainer, config.loss, config.crop)
    if sizes.initialization == "fan_in":
        cast(RainGenerator, nets.generator).start_grey()
    return nets


def trained(config: Config) -> tuple[str, ...]:
    """The networks that take part: without a generator the derainer alone."""
    return Networks._fields if config.loss.generator else ("derainer",)


def reads(config: Config) -> frozenset[str]:
    """The inputs of `step` in stage 1."""
    pasted = {"pasted"} if config.loss.pasted else set()
    pasted |= {"labelled"} if config.data.pairs and config.loss.labelled else set()
    return frozenset({"clean"} | pasted | ({"rainy", "reals"} if config.loss.generator else set()))


def step(nets: Networks, stage: int, inputs: Inputs, config: Config, guidance: Guidance = NO_GUIDANCE) -> Step:
    """`stage1` or `stage2`, or `without_generator`, on the crops of an iteration, and on labelled pairs."""
    done = _unpaired_step(nets, stage, inputs, config, guidance)
    if "labelled" not in inputs:
        return done
    derained = nets.derainer(inputs["labelled"])
    known = [inputs[name] for name in ("labelled_clean", "labelled_weights", "labelled_floors")]
    terms = losses.labelled_terms(derained, *known)
    return Step(done.loss + weigh(terms, config.loss), done.terms | terms, done.judged)


def _unpaired_step(nets: Networks, stage: int, inputs: Inputs, config: Config, guidance: Guidance) -> Step:
    weights = config.loss
    pasted = Pasted(inputs["pasted"], inputs["backgrounds"]) if "pasted" in inputs else None
    if not weights.generator:
        given = [inputs.get(name) for name in ("rainy", "rewards", "improved", "rewarded")]
        loss, terms, _ = without_generator(nets, weights, pasted, given[0], given[1], given[2], given[3], guidance)
        return Step(loss, terms, {})
    rainy, clean = inputs["rainy"], inputs["clean"]
    if stage == 1:
        done = stage1(nets, rainy, clean, weights, pasted)
    else:
        switch, known = config.reward.switch, (inputs["rewards"], inputs["improved"])
        rewarded = inputs.get("rewarded")
        done = stage2(nets, rainy, clean, *known, weights, switch, rewarded, pasted, guidance)
    shown = done.fakes if weights.discriminator_fakes == "all" else done.fakes[: len(rainy)]
    return Step(done.loss, done.terms, {"discriminator": Judged(inputs["reals"], shown)})


def weighted(terms: Terms, config: Config) -> Terms:
    """`weighted_terms` by the run's weights."""
    return weighted_terms(terms, config.loss)


def judge(nets: Networks, judged: Mapping[str, Judged], config: Config) -> Terms:
    """The discriminator's loss."""
    return {name: discriminator_loss(nets, *shown) for name, shown in judged.items()}


def warm(inputs: Inputs) -> dict[str, Judged]:
    """Rainy against clean, which is where the generator starts."""
    return {"discriminator": Judged(inputs["rainy"], inputs["clean"])}


def rain_from(config: Config, switched: bool) -> str:
    """The network whose clean estimate gives the rain: by now the derainer where rewards give it in training."""
    return "derainer" if switched or not config.loss.generator else "unet"


def paint(nets: Mapping[str, nn.Module], clean: Tensor, rainy: Tensor, estimate: Tensor) -> Tensor:
    """G(clean, rainy - estimate), or `paste` where there is no generator."""
    if "generator" not in nets:
        return paste(clean, rainy, estimate)
    return nets["generator"](rain_residual((clean, rainy, estimate)))
