"""Derained images measured against the truth."""

from __future__ import annotations

from typing import Any

from ..config.figures import FILTER, INPUT
from ..config.tiling import OVERLAP, TILE, Tiling
from ..errors import UserError
from ..iqa.metrics import average, evaluate_pair, fixed_filter
from ..system.names import takes_home
from .inputs import Images, ImageWatch, gather, partners, size_of
from .tiled_network import Weights, Window, tiled_network


@takes_home
def evaluate(
    weights: Weights,
    rainy: Images,
    clean: Images,
    *,
    device: str = "auto",
    tile: int = TILE,
    overlap: int = OVERLAP,
    tile_batch: int = 1,
    local_statistics: Window = 0,
    mirror: bool = False,
    grey_layer: bool = False,
    strength: float = 1.0,
    watch: ImageWatch | None = None,
) -> dict[str, Any]:
    """Measure derained images against their clean versions.

    Args:
        weights, device, tile, overlap, tile_batch, local_statistics, mirror, grey_layer, strength, watch: see
            `derain`.
        rainy: folder (or list) of rainy images.
        clean: folder (or list) of their clean versions, matched by file name (see `data.pairing.match_names`).

    Returns:
        Means over images of `psnr_rgb`, `ssim_rgb`, `psnr_y`, `ssim_y` (see `metrics`), the same of the rainy input
        as `input_*` and of the filter without learning as `filter_*`; and `images`, a list of these per image, with
        its `name`.

    Raises:
        UserError: unusable weights or folders, or pairs that do not match; the message names the first.
    """
    inputs = gather(rainy)
    truths = partners(inputs, gather(clean))
    rows = []
    how = weights, device, Tiling(tile, overlap, tile_batch), local_statistics, mirror, grey_layer, strength
    with tiled_network(*how) as network:
        for i, (source, truth) in enumerate(zip(inputs, truths, strict=True)):
            image, wanted = source.load(), truth.load()
            if image.shape != wanted.shape:
                raise UserError(
                    f"{source.name} is {size_of(image)} pixels and its clean version {truth.name} {size_of(wanted)}:"
                    " a pair must show the same scene at the same size"
                )
            row = evaluate_pair(network.tensor(image), wanted)
            row |= {INPUT + key: value for key, value in evaluate_pair(image, wanted).items()}
            row |= {FILTER + key: value for key, value in evaluate_pair(fixed_filter(image), wanted).items()}
            rows.append(row)
            if watch is not None:
                watch(i + 1, len(inputs), source.name)
    named = [{"name": source.name, **row} for source, row in zip(inputs, rows, strict=True)]
    return {**average(rows), "images": named}
