"""The loss terms of RGSUD beside `ops.derain_loss`: pure functions of tensors, in float32 whatever the inputs' type."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import ssim
from ..ops.derain_loss import psnr_loss, squared_error

GUIDANCE = ((3, 0.01), (9, 0.1), (15, 1.0))  # box side in pixels and weight of each blur, from CSUD (CVPR 2025)


def lsgan(scores: Tensor, target: float) -> Tensor:
    """Least-squares GAN term: mean((scores - target)^2), any shape -> scalar."""
    return (scores.float() - target).square().mean()


def hinge(scores: Tensor, sign: float) -> Tensor:
    """Hinge GAN term: mean(max(0, 1 - sign * scores)), any shape -> scalar; sign 1 asks for real, -1 for made."""
    return (1 - sign * scores.float()).relu().mean()


def judge_loss(judge: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """0.5 * (LSGAN(D(real), 1) + LSGAN(D(fake), 0)) by one call on both, [N, 3, H, W] and [M, 3, H, W].

    No gradient goes to what made `fake`.
    """
    on_real, on_fake = _scores(judge, real, fake)
    return 0.5 * (lsgan(on_real, 1.0) + lsgan(on_fake, 0.0))


def hinge_judge_loss(judge: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """0.5 * (mean max(0, 1 - D(real)) + mean max(0, 1 + D(fake))), else as `judge_loss`."""
    on_real, on_fake = _scores(judge, real, fake)
    return 0.5 * (hinge(on_real, 1.0) + hinge(on_fake, -1.0))


def _scores(judge: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, ...]:
    return judge(torch.cat([real, fake.detach()])).split([len(real), len(fake)])


def reward_loss(
    reward: Tensor,
    derained: Tensor,
    improved: Tensor,
    form: str,
    rewarded: Tensor | None = None,
    spoiled: Tensor | None = None,
) -> Tensor:
    """Self-reinforcement: draw the derained image to the best version of it seen so far.

    The paper's ||B_rw - B_r||_F^2, reduced per image as `form` says, then averaged over the images that have a reward.

    Args:
        reward: reward crop B_rw, [N, 3, H, W]; no gradient.
        derained: derained crop B_r, same shape and window. Differentiable.
        improved: which of the N images have a reward, [N] bool.
        form: "psnr" (dB of the mean squared error, the scale of the pair loss at any crop), "sum" or "mean" of it, or
            "l1", the mean absolute error, on the scale of a cycle's.
        rewarded: how many images the loss averages over, a scalar above 0; by default those of `improved`. Of several
            processes it is their mean, so that the mean of their losses is that of all images.
        spoiled: where the reward is spoiled, [N, 1, H, W] in [0, 1]: the squared distance is then the mean weighted by
            1 - spoiled, so that the derainer is not drawn to its rewards' faults.

    Returns:
        The loss, a scalar; exactly 0 where no image has a reward.
    """
    if form == "l1":
        off = (derained.float() - reward.detach().float()).abs()
        value = off.mean((1, 2, 3)) if spoiled is None else _weighted_mean(off, 1 - spoiled)
    else:
        mse = squared_error(derained, reward) if spoiled is None else _weighted_error(derained, reward, 1 - spoiled)
        scale = reward[0].numel() if form == "sum" else 1
        value = psnr_loss(mse) if form == "psnr" else scale * mse
    return torch.where(improved, value, 0).sum() / (improved.sum().clamp(min=1) if rewarded is None else rewarded)


def labelled_terms(derained: Tensor, clean: Tensor, weights: Tensor, floors: Tensor) -> dict[str, Tensor]:
    """L_PSNR, weighed by pair, and L_SSIM of labelled pairs, on the scale of the pseudo pair's loss.

    Args:
        derained, clean: [N, 3, H, W].
        weights: of the pairs, [N].
        floors: squared errors below which L_PSNR asks for no more, [N].
    """
    decibels = psnr_loss(squared_error(derained, clean), floors)
    return {"labelled_psnr": (weights * decibels).mean(), "labelled_ssim": 1 - ssim(derained, clean)}


def masked_l1(made: Tensor, wanted: Tensor, there: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean absolute error over the images that count, [N] bool; exactly 0 where none does. [N, C, H, W] each.

    `count` is how many the mean is over, by default those that are there; see `rewarded` of `reward_loss`.
    """
    return _masked((made.float() - wanted).abs(), there, count)


def masked_l2(made: Tensor, wanted: Tensor, there: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean squared error over the images that count; see `masked_l1`."""
    return _masked((made.float() - wanted).square(), there, count)


def _masked(off: Tensor, there: Tensor, count: Tensor | None) -> Tensor:
    return torch.where(there, off.mean(dim=(1, 2, 3)), 0).sum() / (there.sum().clamp(min=1) if count is None else count)


def reward_gradient(scores: Tensor, rainy: Tensor, derained: Tensor, fidelity: float) -> Tensor:
    """Follow the gradient of a reward R (ReFL, ImageReward): mean max(1 - R, 0), with a guard.

    The guard is mean max(|box15(O - B)| - fidelity, 0): what is taken away must not change large areas.

    Args:
        scores: R of the derained images, [N], with their gradient.
        rainy: O, [N, 3, H, W].
        derained: B, same shape. Differentiable.
        fidelity: largest change of large areas that is free, in [0, 1].

    Returns:
        The loss, a scalar.
    """
    changed = _box((rainy.detach() - derained).float(), GUIDANCE[-1][0]).abs()
    return torch.relu(1 - scores.float()).mean() + torch.relu(changed - fidelity).mean()


def channel_consistency(rainy: Tensor, clean: Tensor) -> Tensor:
    """Penalise a rain layer that is not grey.

    With d = clean - rainy per channel: mean over pixels of |d_r - d_g| + |d_g - d_b| + |d_b - d_r| (CSUD, CVPR 2025).
    """
    r, g, b = (clean.detach() - rainy).float().unbind(1)
    return ((r - g).abs() + (g - b).abs() + (b - r).abs()).mean()


def background_guidance(rainy: Tensor, clean: Tensor) -> Tensor:
    """Hold the background under the rain: sum over blurs of weight * L1(box(rainy), box(clean)) (SCPGabNet, CSUD).

    Boxes of 3, 9 and 15 pixels weigh 0.01, 0.1 and 1. A box is linear, so the difference is blurred once; windows lie
    inside the image, whose sides must be 15 pixels at least.
    """
    if min(rainy.shape[2:]) < GUIDANCE[-1][0]:
        raise ValueError(f"images must be at least {GUIDANCE[-1][0]} pixels high and wide, got {list(rainy.shape)}")
    difference = (rainy - clean.detach()).float()
    return cast(Tensor, sum(weight * _box(difference, side).abs().mean() for side, weight in GUIDANCE))


def structure(derained: Tensor, clean: Tensor) -> Tensor:
    """-log10 of SSIM, taken over windows inside the image (CSUD); below 1e-4, as of noise, no more is asked."""
    return -ssim(derained, clean.detach()).clamp(min=1e-4).log10()


def self_reconstruction(rebuilt: Tensor, clean: Tensor) -> Tensor:
    """L1 between G(clean, 0) and clean: no rain information, no rain (CSUD)."""
    return F.l1_loss(rebuilt.float(), clean.float())


def _weighted_error(derained: Tensor, reward: Tensor, weights: Tensor) -> Tensor:
    """Mean over pixels and channels of the squared distance of each image, weighted by [N, 1, H, W], -> [N]."""
    return _weighted_mean((derained.float() - reward.detach().float()).square(), weights)


def _weighted_mean(off: Tensor, weights: Tensor) -> Tensor:
    """Mean over pixels and channels, [N, C, H, W] weighted by [N, 1, H, W] -> [N]; towards 0 where none weighs."""
    return (weights * off.mean(1, keepdim=True)).sum((1, 2, 3)) / weights.sum((1, 2, 3)).clamp(min=1.0)


def _box(image: Tensor, side: int) -> Tensor:
    # Two matrix products: on the CPU they take a tenth of the time of F.avg_pool2d.
    height, width = image.shape[2:]
    with torch.autocast(image.device.type, enabled=False):
        return _box_matrix(height, side, image.device) @ image @ _box_matrix(width, side, image.device).T


def _box_matrix(size: int, side: int, device: torch.device) -> Tensor:
    """Means over windows of `side` pixels inside an axis of `size`, [windows, size]."""
    first = torch.arange(size - side + 1, device=device)[:, None]
    pixel = torch.arange(size, device=device)
    return ((pixel >= first) & (pixel < first + side)).float() / side
