"""The input of the rain generator: backgrounds, and beside each the rain information of a rainy image."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import _backends as backends
from . import _check as check

Scene = tuple[Tensor, Tensor, Tensor]  # background, rainy image, clean estimate of the rainy image; alike


def rain_residual(*scenes: Scene) -> Tensor:
    """Put backgrounds beside rain information F(O) = O - clean estimate of O, all scenes in one write.

    Equivalent to torch.cat([torch.cat([clean, rainy - estimate], 1) for clean, rainy, estimate in scenes]).

    Args:
        scenes: (clean, rainy, estimate), each [N, 3, H, W], all alike. Differentiable once.

    Returns:
        [scenes * N, 6, H, W], dtype of the images; the difference is rounded once.

    Raises:
        TypeError, ValueError: no scene, or images that are not alike.
    """
    if not scenes:
        raise ValueError("rain_residual needs at least one scene")
    for clean, rainy, estimate in scenes:
        check.image("clean", clean)
        check.alike("clean", clean, "the first clean image", scenes[0][0])
        check.alike("rainy", rainy, "clean", clean)
        check.alike("estimate", estimate, "clean", clean)
    first = scenes[0][0]
    if first.shape[1] != 3:
        raise ValueError(f"clean must be [N, 3, H, W], got {list(first.shape)}")
    if not (impl := backends.choose("rain_residual", first)) or impl is backends.COMPILED:
        return reference(*scenes)
    return _RainResidual.apply(impl, *(image for scene in scenes for image in scene))


def reference(*scenes: Scene) -> Tensor:
    """The definition, in plain PyTorch."""
    return torch.cat([torch.cat([clean, rainy - estimate], 1) for clean, rainy, estimate in scenes])


class _RainResidual(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, impl: ModuleType, *images: Tensor) -> Tensor:
        return impl.forward(images)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_out: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[1:]
        v_images: list[Tensor | None] = []
        for scene, v_scene in enumerate(v_out.chunk(len(wanted) // 3)):
            v_clean, v_rain = v_scene.chunk(2, dim=1)
            v_images += [v_clean, v_rain, -v_rain if wanted[3 * scene + 2] else None]
        return None, *v_images
