"""High pass: what the discriminator sees beside the image, its detail without the broad light and colour."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import _backends as backends
from . import _check as check
from ._gaussian import filter_separably, gaussian
from ._layout import dense, without_autocast

TAPS, SIGMA = 15, 9.0  # csrc/high_pass.h holds the same two numbers


def high_pass(image: Tensor) -> Tensor:
    """Take the broad light and colour out of an image and leave streaks, edges and texture.

    Returns image - Gaussian(image): 15×15 taps, sigma 9 pixels, borders reflected by 7 (RGSUD's discriminator input,
    as in SCPGabNet, ICCV 2023). Linear; its backward is the exact adjoint, the reflected border included.

    Args:
        image: [N, C, H, W], H and W at least 8, which is what reflection by 7 needs. Differentiable once.

    Returns:
        The detail, same shape and dtype. Half precision is computed in float32.

    Raises:
        TypeError, ValueError: image is not such a tensor.
    """
    check.image("image", image, least=TAPS // 2 + 1)
    if not (impl := backends.choose("high_pass", image)):
        return reference(image)
    if impl is backends.COMPILED:
        return torch.ops.rgsud_fast.high_pass(image)
    return _HighPass.apply(*dense(image), impl)


def with_high_pass(image: Tensor) -> Tensor:
    """Put the detail beside the image: what the discriminator sees, in one write.

    Equivalent to torch.cat([image, high_pass(image)], dim=1).

    Args:
        image: as in `high_pass`. Differentiable once.

    Returns:
        [N, 2 * C, H, W], dtype of image.

    Raises:
        TypeError, ValueError: image is not such a tensor.
    """
    check.image("image", image, least=TAPS // 2 + 1)
    if not (impl := backends.choose("high_pass", image)) or impl is backends.COMPILED:
        return torch.cat([image, high_pass(image)], dim=1)
    return _WithHighPass.apply(*dense(image), impl)


def reference(image: Tensor) -> Tensor:
    """The definition, in plain PyTorch."""
    with without_autocast(image):
        wide = image.to(check.accumulate_dtype(image.dtype))
        padded = F.pad(wide, [TAPS // 2] * 4, mode="reflect")
        return (wide - filter_separably(padded, gaussian(TAPS, SIGMA, wide))).to(image.dtype)


class _HighPass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, impl: ModuleType) -> Tensor:
        ctx.impl = impl
        return impl.forward(image)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_detail: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.impl.backward(*dense(v_detail)), None


class _WithHighPass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, impl: ModuleType) -> Tensor:
        ctx.impl = impl
        return impl.forward(image, beside=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_both: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.impl.backward(*dense(v_both), beside=True), None
