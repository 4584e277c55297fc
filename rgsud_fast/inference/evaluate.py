"""Derained images measured against the truth."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..config import load_config
from ..config.figures import FILTER, INPUT
from ..config.rain_types import RainType
from ..config.tiling import OVERLAP, TILE, Tiling
from ..data import read_photo
from ..data.layouts import PairFiles, read_layout, type_of
from ..errors import UserError
from ..iqa.distances import Distance
from ..iqa.metrics import BEST_PSNR, average, by_type, evaluate_pair, fixed_filter
from ..runs.folder import RunFolder
from ..system.names import takes_home
from .inputs import Images, ImageWatch, Source, gather, partners, size_of
from .left_out import LeftOut
from .tiled_network import TiledNetwork, Weights, Window, tiled_network


@takes_home
def evaluate(
    weights: Weights,
    rainy: Images | None = None,
    clean: Images | None = None,
    *,
    pairs: str | Path | None = None,
    device: str = "auto",
    tile: int = TILE,
    overlap: int = OVERLAP,
    tile_batch: int = 1,
    local_statistics: Window = 0,
    mirror: bool = False,
    grey_layer: bool = False,
    strength: float = 1.0,
    metrics: Sequence[str] = (),
    watch: ImageWatch | None = None,
) -> dict[str, Any]:
    """Measure derained images against their clean versions.

    Args:
        weights, device, tile, overlap, tile_batch, local_statistics, mirror, grey_layer, strength, watch: see
            `derain`.
        rainy: folder (or list) of rainy images.
        clean: folder (or list) of their clean versions, matched by file name (see `data.pairing.match_names`).
        pairs: in place of both a folder of labelled pairs, in a layout that is known (docs/unirain.md).
        metrics: further figures, of `lpips` and `dists` (extra `iqa`; lower is better), computed where the network is.

    Returns:
        Means over the pairs that can be read, a warning naming the others: `psnr_rgb`, `ssim_rgb`, `psnr_y`, `ssim_y`
        (see `iqa.metrics`) and those of `metrics`; the same of the rainy input as `input_*` and of the filter without
        learning as `filter_*`; where names tell types of rain, all these of a type as `*_TYPE`, with `types_mean` and
        `types_spread` (see `iqa.metrics.by_type`); and `images`, a list of these per image, with its `name`.

    Raises:
        UserError: not two folders or one of pairs, unusable weights or folders, an unknown layout, pairs that do not
            match, of which the message names the first, no pair that can be read, or a metric whose package or weights
            are missing.
    """
    inputs, truths, known = _pairs(rainy, clean, pairs)
    rows: list[dict[str, float]] = []
    names: list[str] = []
    kinds: list[str | None] = []
    left_out = LeftOut()
    how = weights, device, Tiling(tile, overlap, tile_batch), local_statistics, mirror, grey_layer, strength
    with tiled_network(*how) as network:
        distances = [Distance(name, network.device) for name in metrics]
        for i, (source, truth) in enumerate(zip(inputs, truths, strict=True)):
            pair: list[Tensor] = []
            with left_out.unless(len(inputs) == 1, source.name):
                pair = [source.load(), truth.load()]
            if pair:
                _check_sizes(source, truth, *pair)
                rows.append(_figures(network, distances, *pair))
                names.append(source.name)
                kinds.append(known[i])
            if watch is not None:
                watch(i + 1, len(inputs), source.name)
    if any(row[f"{INPUT}psnr_rgb"] == BEST_PSNR for row in rows):
        warnings.warn("rainy images equal their clean versions: are these the right folders?", stacklevel=2)
    if pairs is not None and _trained_on(weights, Path(pairs)):
        warnings.warn(
            f"the run trained on {pairs}, all but what it held out: its figures there say little of other photographs",
            stacklevel=2,
        )
    if not rows:
        left_out.tell("no pair is measured")
    if left_out.reasons:
        warnings.warn(f"{len(rows)} pairs are measured, {left_out}", stacklevel=2)
    return {
        **average(rows),
        **by_type(rows, kinds),
        "images": [{"name": name, **row} for name, row in zip(names, rows, strict=True)],
    }


def _trained_on(weights: Weights, pairs: Path) -> bool:
    """Whether the weights are a run's that had these labelled pairs, its folders taken from the present one."""
    if not isinstance(weights, (str, Path)):
        return False
    path = Path(weights)
    config = RunFolder(path.parent if path.is_file() else path).config
    try:
        known = load_config(config).data.pairs if config.is_file() else ()
    except UserError:  # a toolbox's, or that of another version
        return False
    return any(pairs.resolve().is_relative_to(Path(folder).resolve()) for folder in known)


def _pairs(
    rainy: Images | None, clean: Images | None, pairs: str | Path | None
) -> tuple[list[Source], list[Source], list[RainType | None]]:
    """Rainy images, their clean versions, and their types of rain."""
    if pairs is None and rainy is not None and clean is not None:
        inputs = gather(rainy)
        root = Path(rainy).name if isinstance(rainy, (str, Path)) else ""
        return inputs, partners(inputs, gather(clean)), [type_of(f"{root}/{source.name}") for source in inputs]
    if pairs is None or rainy is not None or clean is not None:
        raise UserError("give the folders of rainy images and of their clean versions, or one of pairs in their place")
    files = read_layout(pairs)
    sides = [[_side(pair, name) for pair in files] for name in ("rainy", "clean")]
    return sides[0], sides[1], [pair.kind for pair in files]


def _side(pair: PairFiles, side: str) -> Source:
    path: Path = getattr(pair, side)

    def load() -> Tensor:
        image = read_photo(path).on_white()
        return image.chunk(2, 3)[side == "rainy"] if pair.halves else image

    return Source(pair.name if side == "rainy" else path.name, load, path)


def _figures(network: TiledNetwork, distances: list[Distance], rainy: Tensor, clean: Tensor) -> dict[str, float]:
    """Every figure of one pair, [1, 3, H, W] each: of the derained image, of the input, of the fixed filter."""
    figures: dict[str, float] = {}
    for prefix, image in (("", network.tensor(rainy)), (INPUT, rainy), (FILTER, fixed_filter(rainy))):
        figures |= {prefix + name: value for name, value in evaluate_pair(image, clean).items()}
        figures |= {prefix + distance.name: distance.between(image, clean) for distance in distances}
    return figures


def _check_sizes(source: Source, truth: Source, rainy: Tensor, clean: Tensor) -> None:
    if rainy.shape != clean.shape:
        raise UserError(
            f"{source.name} is {size_of(rainy)} pixels and its clean version {truth.name} {size_of(clean)}:"
            " a pair must show the same scene at the same size"
        )
