"""Large images in pieces: overlapping tiles, blended so that no seam shows, in memory that does not grow with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor

from ..config.tiling import OVERLAP, TILE, Tiling
from ..system.device import to_device

Network: TypeAlias = Callable[[Tensor], Tensor]
Read: TypeAlias = Callable[[int, int, int, int], Tensor]  # top, bottom, left, right -> [1, C, h, w]
Watch: TypeAlias = Callable[[int, int], None]  # tiles done, tiles in all

GRID = 16  # pixels: a derainer of four levels halves an image so often


def run_tiled(
    network: Network, image: Tensor, tile: int = TILE, overlap: int = OVERLAP, tiling: Tiling | None = None
) -> Tensor:
    """Apply a network to an image of any size in bounded memory.

    The image is covered by tiles that overlap by at least `overlap` pixels; across an overlap one tile fades out
    as the next fades in, so the weights of a pixel sum to one. An image that fits is done in one call.

    Args:
        network: [N, C, h, w] -> [N, D, h, w] at any h, w.
        image: [1, C, H, W].
        tile: side of a tile in pixels; 0 does the whole image at once. Halved where memory does not hold it.
        overlap: pixels shared by neighbouring tiles, less than the tile.
        tiling: in place of both; it remembers what memory held.

    Returns:
        [1, D, H, W].

    Raises:
        ValueError: an image that is not [1, C, H, W], or an overlap that does not fit the tile.
        UserError: memory does not hold the smallest tile.
    """
    if image.ndim != 4 or image.shape[0] != 1:
        raise ValueError(f"image must be [1, C, H, W], got {list(image.shape)}")
    height, width = image.shape[-2:]
    whole = image.new_empty(0)
    for top, band in bands(network, window_of(image), height, width, tiling or Tiling(tile, overlap)):
        if band.shape[-2] == height:
            return band
        if not len(whole):
            whole = band.new_empty(1, band.shape[1], height, width)
        whole[..., top : top + band.shape[-2], :] = band
    return whole


def window_of(image: Tensor) -> Read:
    """The function that cuts windows out of an image in memory."""
    whole = (0, image.shape[-2], 0, image.shape[-1])

    def read(top: int, bottom: int, left: int, right: int) -> Tensor:
        return image if (top, bottom, left, right) == whole else image[..., top:bottom, left:right]

    return read


def bands(
    network: Network, read: Read, height: int, width: int, tiling: Tiling, watch: Watch | None = None
) -> Iterator[tuple[int, Tensor]]:
    """The result of `run_tiled` in finished bands from top to bottom, so that nothing of the image's size is held.

    Args:
        network: [N, C, h, w] -> [N, D, h, w] at any h, w; it is called with `tiling.batch` tiles. One with `routed`
            (`derainers.moe.MoENet`) first says how it treats all tiles of this image alike.
        read: gives the pixels of a window.
        height, width: of the image.
        tiling: shrunk where memory runs out, and then the bands begin again from the top.
        watch: called after each call of the network where there is more than one tile.

    Yields:
        (top, band): the first row of the band, and its rows, [1, D, h, W].

    Raises:
        UserError: memory does not hold the smallest tile.
    """
    given = network
    while True:
        try:
            if hasattr(given, "routed"):
                network = given.routed(read, height, width, tiling.tile, tiling.overlap)
            yield from _cover(network, read, height, width, tiling, watch)
            return
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
        tiling.shrink(max(height, width))


def _cover(
    network: Network, read: Read, height: int, width: int, tiling: Tiling, watch: Watch | None
) -> Iterator[tuple[int, Tensor]]:
    tile = tiling.tile
    if not tile or (height <= tile and width <= tile):
        yield 0, network(read(0, height, 0, width))
        return

    rows, columns = spans(height, tile, tiling.overlap), spans(width, tile, tiling.overlap)
    row_weights, column_weights = feather(rows, height), feather(columns, width)
    band = torch.empty(0)  # until the network says how many channels it makes
    for i, (top, bottom) in enumerate(rows):
        for some in _alike(columns, tiling.batch):
            tiles = [read(top, bottom, *columns[j]) for j in some]
            done = network(torch.cat(tiles) if len(tiles) > 1 else tiles[0])
            if not len(band):
                band = done.new_zeros(1, done.shape[1], bottom - top, width)
                row_weights, column_weights = (
                    to_device(weights.to(done.dtype), done.device) for weights in (row_weights, column_weights)
                )
            for j, piece in zip(some, done, strict=True):
                left, right = columns[j]
                band[0, ..., left:right] += piece * (row_weights[i, top:bottom, None] * column_weights[j, left:right])
            if watch is not None:
                watch(i * len(columns) + some[-1] + 1, len(rows) * len(columns))
        following, below = rows[i + 1] if i + 1 < len(rows) else (height, height)
        yield top, band[..., : following - top, :]
        rest = band[..., following - top :, :]
        band = band.new_zeros(1, band.shape[1], below - following, width)
        band[..., : rest.shape[-2], :] = rest


def _alike(pieces: list[tuple[int, int]], most: int) -> Iterator[range]:
    """Indices of pieces of one length, at most so many at a time."""
    first = 0
    for last, (start, end) in enumerate(pieces):
        following = pieces[last + 1][1] - pieces[last + 1][0] if last + 1 < len(pieces) else None
        if last + 1 - first == most or following != end - start:
            yield range(first, last + 1)
            first = last + 1


def spans(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Cover `length` pixels with the fewest tiles, spread evenly: (start, end) of each.

    They start at multiples of GRID, where a network's lower resolutions lie as they do in the whole image, so that the
    last may be a few pixels shorter; unless they overlap by nearly all of a tile.
    """
    if length <= tile:
        return [(0, length)]
    grid = GRID if tile - overlap >= GRID else 1
    last, step = -(-(length - tile) // grid), (tile - overlap) // grid
    count = -(-last // step)
    starts = [grid * round(i * last / count) for i in range(count + 1)]
    return [(start, min(start + tile, length)) for start in starts]


def feather(pieces: list[tuple[int, int]], length: int) -> Tensor:
    """Weight of each piece at each pixel: 1 inside, fading across overlaps, summing to one. [pieces, length]."""
    position = torch.arange(length, dtype=torch.float64) + 0.5
    weights = torch.zeros(len(pieces), length, dtype=torch.float64)
    for i, (start, end) in enumerate(pieces):
        weight = ((position > start) & (position < end)).double()
        if i > 0 and pieces[i - 1][1] > start:
            weight *= fade((position - start) / (pieces[i - 1][1] - start))
        if i + 1 < len(pieces) and pieces[i + 1][0] < end:
            weight *= fade((end - position) / (end - pieces[i + 1][0]))
        weights[i] = weight
    return weights / weights.sum(0)


def fade(share: Tensor) -> Tensor:
    """From 0 to 1 across the middle half of an overlap; nearer its edge, for want of neighbours, a tile counts nothing.

    So tiles give what the whole gives wherever the network sees no farther than a quarter of the overlap.
    """
    share = (2 * share - 0.5).clamp(0, 1)
    return share * share * (3 - 2 * share)


def _out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, of the GPU or of the host (whose allocator raises a plain RuntimeError)."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        torch.cuda.empty_cache()  # nothing where CUDA was never used
        return True
    return "DefaultCPUAllocator" in str(error)
