"""pool_update by csrc/cpu/pool_update.h."""

from __future__ import annotations

from torch import Tensor

from . import _C, address, threads


def forward(
    arena: Tensor, scores: Tensor, images: Tensor, values: Tensor, places: Tensor, margin: float, entered: Tensor
) -> None:
    """Change arena and scores, and fill `entered`."""
    images = images.float().contiguous()
    tensors = [address(tensor) for tensor in (arena, scores, images, values, places, entered)]
    sizes = [len(images), *images.shape[2:], *scores.shape, arena.shape[1]]
    _C.pool_update_cpu(*tensors, sizes, margin, threads())
