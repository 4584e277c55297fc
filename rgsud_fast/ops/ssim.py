"""SSIM: how alike two images are in structure; 1 - ssim is half of the pseudo-pair loss."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import _backends as backends
from . import _check as check
from ._gaussian import filter_separably, gaussian
from ._layout import dense, without_autocast

TAPS, SIGMA = 11, 1.5  # csrc/ssim.h holds the same numbers
C1, C2 = 0.01**2, 0.03**2  # (K * data range)^2


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Measure how alike two images are in local mean, contrast and structure.

    The mean, over valid 11×11 windows (Gaussian, sigma 1.5) of every channel and image, of
    (2 m_x m_y + C1)(2 s_xy + C2) / ((m_x^2 + m_y^2 + C1)(s_x^2 + s_y^2 + C2)), K 0.01 and 0.03, data range 1
    (Wang et al., TIP 2004).

    Args:
        x: [N, C, H, W], H and W at least 11, meant in [0, 1]. Differentiable once.
        y: the other image, same shape, dtype and device. Differentiable once.

    Returns:
        The mean SSIM, a scalar of float32 (float64 for float64 images), at most 1.

    Raises:
        TypeError, ValueError: x or y is not such a tensor.
    """
    check.image("x", x, least=TAPS)
    check.alike("y", y, "x", x)
    if not (impl := backends.choose("ssim", x)):
        return reference(x, y)
    wide = check.accumulate_dtype(x.dtype)
    x, y = dense(x.to(wide), y.to(wide))
    if impl is backends.COMPILED:
        return torch.ops.rgsud_fast.ssim(x, y, x.requires_grad, y.requires_grad)[0]
    return _Ssim.apply(x, y, impl)


def reference(x: Tensor, y: Tensor) -> Tensor:
    """The definition, in plain PyTorch."""
    with without_autocast(x):
        wide = check.accumulate_dtype(x.dtype)
        x, y = x.to(wide), y.to(wide)
        # One convolution for all four moments: SSIM needs the two variances only as their sum.
        moments = filter_separably(torch.cat([x, y, x * x + y * y, x * y], 1), gaussian(TAPS, SIGMA, x))
        mean_x, mean_y, squares, product = moments.chunk(4, 1)
        cross, power = mean_x * mean_y, mean_x.square() + mean_y.square()
        alike = (2 * cross + C1) * (2 * (product - cross) + C2)
        return (alike / ((power + C1) * (squares - power + C2))).mean()


class _Ssim(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, impl: ModuleType) -> Tensor:
        # The kernel makes the gradients along with the value: the window moments are at hand only then.
        value, v_x, v_y = impl.forward(x, y, ctx.needs_input_grad[0], ctx.needs_input_grad[1])
        ctx.save_for_backward(v_x, v_y)
        ctx.impl = impl
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_value: Tensor) -> tuple[Tensor | None, ...]:
        return *ctx.impl.backward(v_value, *ctx.saved_tensors), None
