"""A run's own rain and its own derainer's results, with the truth behind them: what a score should learn to judge."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ..data import read_image, render_rain, to_batch, write_image
from ..data.image_files import to_bytes
from ..errors import UserError
from ..iqa.finpercep.generated import Triplet, broad_style
from ..networks import evaluating
from ..networks.tiles import run_tiled
from .rain import rain as paint
from .tiled_network import on_device

PAINTED, OWN = 64, 64  # pairs that are painted, and derained crops
SIDE = 256  # most of a crop's

Pairs: TypeAlias = list[tuple[np.ndarray, np.ndarray]]


def own_material(
    run: str | Path, clean: Sequence[np.ndarray], rainy: str | Path | None, seed: int, device: str
) -> tuple[Pairs, list[Triplet]]:
    """Clean images with rain that a run paints, and with what the run's derainer makes of such pairs.

    Args:
        run: run folder.
        clean: the clean photographs, uint8 [H, W, 3] each.
        rainy: folder whose rain is painted; None: rain is rendered alone.
        seed: of what is drawn.
        device: see `derain`.

    Returns:
        (clean, rainy) pairs, painted; (clean, rainy, derained) crops.
    """
    painted = [] if rainy is None else _painted(run, clean, rainy, seed, device)
    rng = np.random.default_rng(seed)
    pairs: Pairs = []
    for number in range(OWN):
        if painted and number % 2:
            pairs.append(painted[number % len(painted)])
        else:
            image = _cut(clean[number % len(clean)], rng)
            pairs.append((image, render_rain(image, broad_style(rng), int(rng.integers(2**62)))))
    network, where = on_device(run, device)
    with evaluating(network):
        own = [(c, o, to_bytes(run_tiled(network, to_batch(o, where))[0].clamp(0, 1).cpu())) for c, o in pairs]
    return painted, own


def _painted(run: str | Path, clean: Sequence[np.ndarray], rainy: str | Path, seed: int, device: str) -> Pairs:
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(min(PAINTED, len(clean))):
            write_image(folder / "clean" / f"{number:03d}.png", _cut(clean[number], rng))
        try:
            written = paint(run, folder / "clean", rainy, folder / "pairs", device=device, seed=seed)
        except UserError as error:
            raise UserError(f"--run {run} cannot paint rain: {error}") from None
        return [(read_image(dry), read_image(wet)) for wet, dry in written]


def _cut(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A window of at most `SIDE` pixels a side."""
    top, left = (int(rng.integers(max(length - SIDE, 0) + 1)) for length in image.shape[:2])
    return np.ascontiguousarray(image[top : top + SIDE, left : left + SIDE])
