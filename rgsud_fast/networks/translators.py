"""ResNet translators from one domain to another (CycleGAN, Zhu et al. 2017; CUT, Park et al. 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._common import check_image, cut, init_normal, pad_to_multiple
from .discriminator import Halve
from .windows import InstanceNorm

LEVEL = 2  # of the residual blocks: halvings of the resolution
SCALE = 1 << LEVEL  # of the lowest resolution


class Translator(nn.Module):
    """An image of one domain made one of another. 11,378,179 parameters at the defaults, six blocks 7,837,699.

    Reflected borders, bias everywhere, instance normalisation without parameters. Images are in [0, 1]; inside they are
    2 x - 1.

    Args:
        width: channels at full resolution; doubled twice.
        blocks: residual blocks at a quarter of the resolution.
        antialias: halve by a blur, [1 2 1]/4 each way and every second pixel, in place of strides. Doubling is
            bilinear either way, which is that blur's transpose; transposed convolutions paint grids.
        residual: add what the layers make to the input, in place of a tanh: a fresh network is near the identity.
    """

    def __init__(self, width: int = 64, blocks: int = 9, antialias: bool = True, residual: bool = False) -> None:
        super().__init__()
        self.sizes = {"width": width, "blocks": blocks, "antialias": antialias, "residual": residual}
        self.residual = residual
        stride = 1 if antialias else 2
        self.first = nn.Conv2d(3, width, 7)
        self.down1 = nn.Conv2d(width, 2 * width, 3, stride, padding=1)
        self.down2 = nn.Conv2d(2 * width, 4 * width, 3, stride, padding=1)
        self.halve = Halve() if antialias else nn.Identity()
        self.blocks = nn.ModuleList(Block(4 * width) for _ in range(blocks))
        self.up1 = nn.Conv2d(4 * width, 2 * width, 3, padding=1)
        self.up2 = nn.Conv2d(2 * width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 3, 7)
        half, quarter = (0, 1) if antialias else (1, 2)  # a blur halves after the normalisation
        levels = {"first": 0, "down1": half, "down2": quarter, "up1": 1, "up2": 0}
        self.norms = nn.ModuleDict({name: InstanceNorm(0.0, level) for name, level in levels.items()})
        init_normal(self)

    @torch.no_grad()
    def start_near_identity(self) -> None:
        """Make the change of a fresh residual translator faint."""
        if self.residual:
            self.last.weight.mul_(0.1)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] in [0, 1] -> the same; with `residual` not clamped."""
        check_image(image)
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, SCALE)
        made = self._decode(self._encode(padded)[1])
        made = padded + made / 2 if self.residual else (torch.tanh(made) + 1) / 2
        return cut(made, height, width)

    def features(self, image: Tensor) -> list[Tensor]:
        """What contrastive losses compare, of the image as `forward` pads it (CUT's layers 0, 4, 8, 12 and 16).

        The input with its border, [N, 3, H + 6, W + 6]; both convolutions that halve, before their normalisation; the
        first residual block, and the fifth or last.
        """
        return self._encode(pad_to_multiple(image, SCALE))[0]

    def _encode(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """What `features` hands out, and the last block's."""
        bordered = F.pad(2 * image - 1, (3, 3, 3, 3), mode="reflect")
        x = self.norms["first"](self.first(bordered))
        half = self.down1(x)
        x = self.halve(self.norms["down1"](half))
        quarter = self.down2(x)
        x = self.halve(self.norms["down2"](quarter))
        features = [bordered, half, quarter]
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number in (1, min(5, len(self.blocks))):
                features.append(x)
        return features, x

    def _decode(self, x: Tensor) -> Tensor:
        for up, norm in ((self.up1, self.norms["up1"]), (self.up2, self.norms["up2"])):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = norm(up(x))
        return self.last(F.pad(x, (3, 3, 3, 3), mode="reflect"))


class Block(nn.Module):
    """x + IN(conv3x3(relu(IN(conv3x3(x))))), reflected borders."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3)
        self.conv2 = nn.Conv2d(width, width, 3)
        self.norms = nn.ModuleList(InstanceNorm(slope, LEVEL) for slope in (0.0, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norms[0](self.conv1(F.pad(x, (1, 1, 1, 1), mode="reflect")))
        return x + self.norms[1](self.conv2(F.pad(inner, (1, 1, 1, 1), mode="reflect")))
