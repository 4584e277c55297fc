"""The loss of a derained image against a clean one: both terms of the pseudo-pair loss in one walk over the images."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import _backends as backends
from . import _check as check
from ._layout import dense, lies_last
from .ssim import TAPS, ssim
from .ssim import reference as mean_ssim

DECIBELS = 10 / math.log(10)  # turns a natural logarithm of a squared error into decibels; csrc/derain_loss.h too
FLOOR = 1e-8  # keeps the logarithm finite where two images are equal: -80 dB


def derain_loss(derained: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """Measure how far derained images are from clean ones, in decibels and in structure.

    The first term is the mean over the batch of (10 / ln 10) ln(MSE + 1e-8), MSE per image, which is the negative PSNR
    (NAFNet, ECCV 2022); the second 1 - ssim(derained, clean).

    Args:
        derained: [N, C, H, W], H and W at least 11, meant in [0, 1]. Differentiable once.
        clean: its target, same shape, dtype and device; no gradient reaches it.

    Returns:
        The two terms, scalars of float32 (float64 for float64 images).

    Raises:
        TypeError, ValueError: an argument is not such a tensor.
    """
    check.image("derained", derained, least=TAPS)
    check.alike("clean", clean, "derained", derained)
    clean = clean.detach()
    if not (impl := backends.choose("derain_loss", derained)):
        return reference(derained, clean)
    if impl is backends.COMPILED:  # ssim is an op of the graph; the rest torch.compile fuses
        return psnr_loss(squared_error(derained, clean)).mean(), 1 - ssim(derained, clean)
    wide = check.accumulate_dtype(derained.dtype)
    return _DerainLoss.apply(*dense(derained.to(wide), clean.to(wide)), impl).unbind()


def reference(derained: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """The definition, in plain PyTorch."""
    return psnr_loss(squared_error(derained, clean)).mean(), 1 - mean_ssim(derained, clean.detach())


def squared_error(derained: Tensor, clean: Tensor) -> Tensor:
    """Mean squared error of each image, in float32 at least; no gradient reaches `clean`. [N, C, H, W] twice -> [N]."""
    wide = check.accumulate_dtype(derained.dtype)
    difference = derained.to(wide) - clean.detach().to(wide)
    if difference.is_cuda and lies_last(difference):
        difference = difference.permute(0, 2, 3, 1)  # in the order of memory, which the mean's gradient then has too
    return difference.square().mean(dim=(1, 2, 3))


def psnr_loss(mse: Tensor, floor: float | Tensor = FLOOR) -> Tensor:
    """Negative PSNR of mean squared errors, in dB; at least that of the floor, -80. A floor may be each one's own."""
    return DECIBELS * (mse + floor).log()


class _DerainLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, derained: Tensor, clean: Tensor, impl: ModuleType) -> Tensor:
        values, v_ssim, mse = impl.forward(derained, clean, ctx.needs_input_grad[0])
        ctx.save_for_backward(derained, clean, v_ssim, mse)
        ctx.impl = impl
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_values: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.impl.backward(v_values, *ctx.saved_tensors), None, None
