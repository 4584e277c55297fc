"""Places of like content, and the contrasts of NLCL at them (Ye et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def near_places(image: Tensor, corner: Tensor, patch: int, reach: int, count: int) -> Tensor:
    """The places whose surroundings are most like a patch, among those within reach of it, that one included.

    Squared distances |p - q|^2 of a patch p to all others q are |p|^2 + |q|^2 - 2 p.q: a number, a box sum and one
    convolution with the patch.

    Args:
        image: what is compared, an image or features, [N, C, H, W].
        corner: top left pixel of the patch p in each of them, row-major among the (H - patch + 1)(W - patch + 1) that
            there are; int64, a scalar.
        patch: side of the patches, in pixels.
        reach: how far others lie, in pixels each way; those that the image cuts off do not count.
        count: how many places, at most (reach + 1)^2.

    Returns:
        The middles of the nearest patches in each image, row-major, int64 [N, count].
    """
    image = image.float()
    images, channels, height, width = image.shape
    lasts = (height - patch, width - patch)  # of a patch's first row and column
    first = (corner // (lasts[1] + 1) - reach, corner % (lasts[1] + 1) - reach)  # of the window; may lie outside
    steps = torch.arange(2 * reach + patch, device=image.device)
    rows, columns = ((start + steps).clamp(0, side - 1) for start, side in zip(first, (height, width), strict=True))
    window = image[:, :, rows][:, :, :, columns]
    wanted = window[:, :, reach : reach + patch, reach : reach + patch]
    energy = F.avg_pool2d(window.square().sum(1, keepdim=True), patch, 1)[:, 0] * patch**2
    with torch.autocast(image.device.type, enabled=False):
        product = F.conv2d(window.reshape(1, images * channels, *window.shape[2:]), wanted, groups=images)[0]
    distance = energy - 2 * product  # [N, 2 reach + 1, 2 reach + 1], and the patch's own energy
    across = 2 * reach + 1
    starts = [start + steps[:across] for start in first]
    inside = [(start >= 0) & (start <= last) for start, last in zip(starts, lasts, strict=True)]
    distance = distance.masked_fill(~(inside[0][:, None] & inside[1]), torch.inf)
    nearest = distance.flatten(1).topk(count, largest=False).indices
    return (starts[0][nearest // across] + patch // 2) * width + starts[1][nearest % across] + patch // 2


def places_in(features: Sequence[Tensor], places: Tensor, height: int, width: int) -> list[Tensor]:
    """Places of an image of that size, row-major int64 [N, P], in each of its layers of features, [N, C, h, w]."""
    rows, columns = places // width, places % width
    return [
        (rows * layer.shape[2] // height) * layer.shape[3] + columns * layer.shape[3] // width for layer in features
    ]


def supervised_contrast(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Vectors of two kinds told apart (Khosla et al., NeurIPS 2020).

    For each vector of either kind, the mean over the others of its kind of -log softmax of its products with all
    vectors but itself, divided by the temperature; then the mean over vectors and images.

    Args:
        one, other: vectors of either kind, [N, P, C] and [N, Q, C], of length 1; P and Q at least 2.
        temperature: of the softmax.

    Returns:
        The loss, a scalar.
    """
    vectors = torch.cat([one, other], 1).float()
    kind = torch.arange(vectors.shape[1], device=vectors.device) < one.shape[1]
    itself = torch.eye(len(kind), dtype=torch.bool, device=vectors.device)
    logits = (vectors @ vectors.transpose(1, 2) / temperature).masked_fill(itself, -torch.inf)
    shares = logits.log_softmax(2).masked_fill(itself, 0)
    alike = (kind[:, None] == kind) & ~itself
    return -((shares * alike).sum(2) / alike.sum(1)).mean()
