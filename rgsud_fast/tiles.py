"""Large images in pieces: overlapping tiles, blended so that no seam shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TILE, OVERLAP = 1024, 64  # pixels; the command line reads them, and its --help does not wait for torch


def run_tiled(network: Callable[[Tensor], Tensor], image: Tensor, tile: int = TILE, overlap: int = OVERLAP) -> Tensor:
    """Apply a network to an image of any size in bounded memory.

    The image is covered by equal tiles that overlap by at least `overlap` pixels; across an overlap one tile fades
    out linearly as the next fades in, so the weights of a pixel sum to one. An image that fits is done in one call.

    Args:
        network: [1, C, h, w] -> [1, D, h, w] at any h, w.
        image: [1, C, H, W].
        tile: side of a tile in pixels; 0 does the whole image at once.
        overlap: pixels shared by neighbouring tiles, less than the tile.

    Returns:
        [1, D, H, W].

    Raises:
        ValueError: an image that is not [1, C, H, W], or an overlap that does not fit the tile.
    """
    if image.ndim != 4 or image.shape[0] != 1:
        raise ValueError(f"image must be [1, C, H, W], got {list(image.shape)}")
    if tile < 0 or overlap < 0 or (tile and overlap >= tile):
        raise ValueError(f"overlap must be at least 0 and less than the tile, got tile {tile} and overlap {overlap}")
    height, width = image.shape[-2:]
    if not tile or (height <= tile and width <= tile):
        return network(image)

    rows, columns = spans(height, tile, overlap), spans(width, tile, overlap)
    row_weights = feather(rows, height).to(image)
    column_weights = feather(columns, width).to(image)
    blended = None
    for row_weight, (top, bottom) in zip(row_weights, rows, strict=True):
        for column_weight, (left, right) in zip(column_weights, columns, strict=True):
            done = network(image[..., top:bottom, left:right])
            if blended is None:
                blended = done.new_zeros(1, done.shape[1], height, width)
            weight = row_weight[top:bottom, None] * column_weight[None, left:right]
            blended[..., top:bottom, left:right] += done * weight
    return blended


def spans(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Cover `length` pixels with the fewest tiles, spread evenly: (start, end) of each."""
    if length <= tile:
        return [(0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    starts = [round(i * (length - tile) / (count - 1)) for i in range(count)]
    return [(start, start + tile) for start in starts]


def feather(pieces: list[tuple[int, int]], length: int) -> Tensor:
    """Weight of each piece at each pixel: 1 inside, linear across overlaps, summing to one. [pieces, length]."""
    import torch

    position = torch.arange(length, dtype=torch.float64) + 0.5
    weights = torch.zeros(len(pieces), length, dtype=torch.float64)
    for i, (start, end) in enumerate(pieces):
        weight = ((position > start) & (position < end)).double()
        if i > 0 and pieces[i - 1][1] > start:
            weight *= ((position - start) / (pieces[i - 1][1] - start)).clamp(0, 1)
        if i + 1 < len(pieces) and pieces[i + 1][0] < end:
            weight *= ((end - position) / (end - pieces[i + 1][0])).clamp(0, 1)
        weights[i] = weight
    return weights / weights.sum(0)
