"""The judge of DerainCycleGAN (Wei et al., TIP 2021): the same layers at several resolutions, without normalisation."""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from ._common import check_image, init_normal

SLOPE = 0.01  # of its LeakyReLU
DEPTH = 4  # halvings at each resolution


class MultiScaleDiscriminator(nn.Module):
    """Tell real images of a domain from made ones at several resolutions. 8,271,171 parameters at the defaults.

    Args:
        width: channels after the first convolution; doubled three times.
        scales: resolutions, each half of the one before.
    """

    def __init__(self, width: int = 64, scales: int = 3) -> None:
        super().__init__()
        self.sizes = {"width": width, "scales": scales}
        self.scales = nn.ModuleList(_layers(width) for _ in range(scales))
        init_normal(self)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 1, about H/16, about W/16] scores of the first scale, towards 1 for real images."""
        check_image(image)
        return _scores(self.scales[0], 2 * image - 1)

    def features(self, image: Tensor) -> list[Tensor]:
        """The scores of every scale."""
        check_image(image)
        x, scores = 2 * image - 1, []
        for layers in self.scales:
            scores.append(_scores(layers, x))
            x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        return scores


def least_side(scales: int) -> int:
    """The smallest crop that so many scales can judge, in pixels: borders are reflected at every halving."""
    return (2**DEPTH - 1) * 2 ** (scales - 1) + 1


def _layers(width: int) -> nn.ModuleList:
    channels = [3, *(width * 2**level for level in range(DEPTH))]
    convs = [nn.Conv2d(a, b, 4, 2) for a, b in itertools.pairwise(channels)]
    return nn.ModuleList([*convs, nn.Conv2d(channels[-1], 1, 1)])


def _scores(layers: nn.Module, x: Tensor) -> Tensor:
    *convs, last = layers.children()
    for conv in convs:
        x = F.leaky_relu(conv(F.pad(x, (1, 1, 1, 1), mode="reflect")), SLOPE)
    return last(x)
