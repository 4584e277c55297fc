"""The rain generator: paints the rain of one image onto another (layer table of CSUD, CVPR 2025)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..ops import residual_block
from ._common import SLOPE, Conv, check_image, init_normal, start_grey


class RainGenerator(nn.Module):
    """Make a rainy image of a clean one and of rain information. 545,283 parameters at the defaults.

    Zero padding, bias everywhere, no normalisation, nothing squashed or clamped at the end.

    Args:
        width: channels of the trunk.
        blocks: residual blocks.
    """

    def __init__(self, width: int = 64, blocks: int = 6) -> None:
        super().__init__()
        self.sizes = {"width": width, "blocks": blocks}
        self.first = Conv(6, width, 7)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.merge1 = Conv(width, width, 3, SLOPE)
        self.merge2 = Conv(width, width, 3, SLOPE)
        self.last = Conv(width, 3, 7)
        init_normal(self)

    def start_grey(self) -> None:
        """Make the rain of a fresh generator faint, grey and free of low frequencies.

        Coloured or broad first rain is what channel consistency and background guidance punish: they would switch the
        rain information off before the discriminator has learned what rain is.
        """
        start_grey(self.last)

    def forward(self, scene: Tensor) -> Tensor:
        """Paint rain.

        Args:
            scene: background and rain information F(O) = O - clean estimate of O, side by side as `rain_residual`
                puts them, [N, 6, H, W], not clamped.

        Returns:
            The rainy image, [N, 3, H, W], not clamped.
        """
        check_image(scene, channels=6, name="scene")
        x = self.blocks(self.first(scene))
        painted = self.last(self.merge2(self.merge1(x)))
        if not (painted.is_cuda and torch.is_grad_enabled()):
            return painted + scene[:, :3]
        image: Tensor = _OnBackground.apply(painted, scene)
        return image


class _OnBackground(torch.autograd.Function):
    """painted + scene[:, :3], whose gradient keeps its layout in memory; a slice's has the channels first."""

    @staticmethod
    def forward(ctx: Any, painted: Tensor, scene: Tensor) -> Tensor:
        ctx.dtypes = painted.dtype, scene.dtype
        return painted + scene[:, :3]

    @staticmethod
    def backward(ctx: Any, v_out: Tensor) -> tuple[Tensor | None, ...]:
        dtype, dtype_of_scene = ctx.dtypes
        at_scene = (
            torch.cat([v_out, torch.zeros_like(v_out)], 1).to(dtype_of_scene) if ctx.needs_input_grad[1] else None
        )
        return v_out.to(dtype), at_scene


class ResidualBlock(nn.Module):
    """x + lrelu(conv3x3(lrelu(conv3x3(x)))): both activations before the addition, none after it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = Conv(width, width, 3)
        self.conv2 = Conv(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return residual_block(x, self.conv1.weight, self.conv1.bias, self.conv2.weight, self.conv2.bias, SLOPE)
