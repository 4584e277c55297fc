"""The tools of a toolbox: two small networks that keep the shape, each trained for one damage of one strength."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config.toolbox import Net
from .._common import check_image

REACH = 8  # pixels on each side that an output pixel of either network depends on: a receptive field of 17
PROBE = 129  # side of the image on which the reach of a foreign tool is measured


class Tool(nn.Module):
    """Repair one kind of damage (RL-Restore, CVPR 2018, Table 1): [N, 3, H, W] -> the same, not clipped.

    `small`, 21,827 parameters: 9x9 3->32, 5x5 32->16, 5x5 16->3. `large`, 50,851: 5x5 3->64, 1x1 64->32, two residual
    pairs of 3x3 32, 1x1 32->64, 5x5 64->3. ReLU between; the input is added to the output.

    Args:
        net: small or large. Initial weights are He's, the last layer's a tenth, so that a new tool changes little.
    """

    def __init__(self, net: Net = "small") -> None:
        super().__init__()
        self.net: Net = net
        self.reach = REACH
        sides = [(3, 32, 9), (32, 16, 5)] if net == "small" else [(3, 64, 5), (64, 32, 1), *4 * [(32, 32, 3)]]
        sides += [] if net == "small" else [(32, 64, 1)]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, taps, padding=taps // 2) for a, b, taps in sides)
        self.last = nn.Conv2d(sides[-1][1], 3, 5, padding=2)
        for layer in (*self.layers, self.last):
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / layer.weight[0].numel()))
            nn.init.zeros_(layer.bias)
        self.last.weight.data.mul_(0.1)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 3, H, W], any H and W."""
        check_image(image)
        if self.net == "small":
            first, second = self.layers
            return image + self.last(F.relu(second(F.relu(first(image)))))
        first, narrow, *pairs, wide = self.layers
        x = narrow(F.relu(first(image)))
        for one, two in (pairs[:2], pairs[2:]):
            x = x + two(F.relu(one(F.relu(x))))
        return image + self.last(F.relu(wide(F.relu(x))))


def reach_of(tool: nn.Module) -> int:
    """How many pixels away an output pixel of a tool still sees, at most half of `PROBE`; measured by gradients."""
    if isinstance(tool, Tool):
        return tool.reach
    parameter = next(tool.parameters(), None)
    where = parameter.device if parameter is not None else torch.device("cpu")
    image = torch.linspace(0, 1, 3 * PROBE * PROBE, device=where).reshape(1, 3, PROBE, PROBE).requires_grad_(True)
    middle = PROBE // 2
    with torch.enable_grad():
        (seen,) = torch.autograd.grad(tool(image)[0, :, middle, middle].sum(), image)
    rows, columns = torch.nonzero(seen[0].abs().sum(0), as_tuple=True)
    if not len(rows):
        return 0
    return int(torch.stack([(rows - middle).abs().max(), (columns - middle).abs().max()]).max())
