"""The loss terms of RGSUD: pure functions of tensors, computed in float32 whatever the inputs' type."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .ops import ssim

DECIBELS = 10 / math.log(10)  # turns a natural logarithm of a squared error into decibels
FLOOR = 1e-8  # keeps the logarithm finite where two images are equal: -80 dB
GUIDANCE = ((3, 0.01), (9, 0.1), (15, 1.0))  # box side in pixels and weight of each blur, from CSUD (CVPR 2025)


def squared_error(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of each image. [N, C, H, W] twice -> [N]."""
    return (x.float() - y.float()).square().mean(dim=(1, 2, 3))


def psnr_loss(x: Tensor, y: Tensor) -> Tensor:
    """Negative PSNR in dB: (10 / ln 10) * mean over the batch of ln(MSE + 1e-8) (NAFNet, ECCV 2022)."""
    return DECIBELS * (squared_error(x, y) + FLOOR).log().mean()


def ssim_loss(x: Tensor, y: Tensor) -> Tensor:
    """1 - SSIM with an 11 x 11 Gaussian window, sigma 1.5, data range 1."""
    return 1 - ssim(x.float(), y.float())


def lsgan(scores: Tensor, target: float) -> Tensor:
    """Least-squares GAN term: mean((scores - target)^2), any shape -> scalar."""
    return (scores.float() - target).square().mean()


def reward_loss(reward: Tensor, derained: Tensor, improved: Tensor, form: str) -> Tensor:
    """Self-reinforcement: draw the derained image to the best version of it seen so far.

    The paper's ||B_rw - B_r||_F^2, reduced per image as `form` says, then averaged over the images that have a reward.

    Args:
        reward: reward crop B_rw, [N, 3, H, W]; no gradient.
        derained: derained crop B_r, same shape and window. Differentiable.
        improved: which of the N images have a reward, [N] bool.
        form: "psnr" (dB of the mean squared error, the scale of the pair loss at any crop), "sum" or "mean".

    Returns:
        The loss, a scalar; exactly 0 where no image has a reward.
    """
    mse = squared_error(derained, reward.detach())
    scale = reward[0].numel() if form == "sum" else 1
    value = DECIBELS * (mse + FLOOR).log() if form == "psnr" else scale * mse
    return torch.where(improved, value, 0).sum() / improved.sum().clamp(min=1)


def channel_consistency(rainy: Tensor, clean: Tensor) -> Tensor:
    """Penalise a rain layer that is not grey.

    With d = clean - rainy per channel: mean over pixels of |d_r - d_g| + |d_g - d_b| + |d_b - d_r| (CSUD, CVPR 2025).
    """
    r, g, b = (clean.detach() - rainy).float().unbind(1)
    return ((r - g).abs() + (g - b).abs() + (b - r).abs()).mean()


def background_guidance(rainy: Tensor, clean: Tensor) -> Tensor:
    """Hold the background under the rain: sum over blurs of weight * L1(box(rainy), box(clean)) (SCPGabNet, CSUD).

    Boxes of 3, 9 and 15 pixels weigh 0.01, 0.1 and 1. A box is linear, so the difference is blurred once; windows lie
    inside the image.
    """
    difference = (rainy - clean.detach()).float()
    return sum(weight * _box(difference, side).abs().mean() for side, weight in GUIDANCE)


def self_reconstruction(rebuilt: Tensor, clean: Tensor) -> Tensor:
    """L1 between G(clean, 0) and clean: no rain information, no rain (CSUD)."""
    return F.l1_loss(rebuilt.float(), clean.float())


def _box(image: Tensor, side: int) -> Tensor:
    rows = F.avg_pool2d(image, (side, 1), stride=1)
    return F.avg_pool2d(rows, (1, side), stride=1)
