"""Rewards by regions: of a new version and the best one stored, each block from the less spoiled of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 32  # pixels
FEATHER = 8  # pixels over which one version fades into the other


def composite(new: Tensor, old: Tensor, spoiled_new: Tensor, spoiled_old: Tensor, margin: float) -> Tensor:
    """Take blocks of the new version where it is less spoiled by more than a margin, and the old one elsewhere.

    Args:
        new, old: two derained versions of one image, [1, 3, H, W] in [0, 1].
        spoiled_new, spoiled_old: their maps, [1, 1, H, W] in [0, 1].
        margin: by which a block's mean must be lower.

    Returns:
        [1, 3, H, W]; equal to `old` where no block of the new one is better.
    """
    height, width = new.shape[2:]
    better = _blocks(spoiled_new) < _blocks(spoiled_old) - margin
    share = better.to(new.dtype).repeat_interleave(BLOCK, 2).repeat_interleave(BLOCK, 3)[..., :height, :width]
    reach = FEATHER // 2
    padded = F.pad(share, (reach, reach, reach, reach), mode="replicate")
    return torch.lerp(old, new, F.avg_pool2d(padded, 2 * reach + 1, 1))


def _blocks(spoiled: Tensor) -> Tensor:
    """Means over blocks; those at the right and bottom edge over what there is of them."""
    return F.avg_pool2d(spoiled, BLOCK, ceil_mode=True)
