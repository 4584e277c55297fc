"""The embedded data: photographs bundled with scikit-image as two domains and held-out pairs, with rendered rain.

A small test bed, not a benchmark: ten scenes, five of them grey, and rain that is rendered.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..errors import UserError
from .domains import Domains, Pair
from .folder_set import FolderSet
from .image_files import read_image
from .rain import RainStyle, render_rain

# (file, rains). Each photograph of the domains is split in the middle: its left half stays clean, its right half gets
# the rains, one image each. So the domains share no pixel, and differ in rain more than in what they show. Many rains,
# since a discriminator that has seen few learns those by heart.
TRAINING = (
    ("astronaut.png", 8),
    ("chelsea.png", 8),
    ("coffee.png", 8),
    ("rocket.jpg", 8),
    ("brick.png", 4),
    ("grass.png", 4),
    ("gravel.png", 4),
    ("coins.png", 4),
)

# (file, columns as shares of the width, rain). The stereo pair is one scene: its views show different halves of it.
VALIDATION = (
    ("motorcycle_left.png", (0.0, 0.5), RainStyle(-20, length=32, width=2.8, density=0.055, brightness=0.32, layers=1)),
    ("motorcycle_right.png", (0.5, 1.0), RainStyle(12, length=45, width=3.2, density=0.05, brightness=0.34, layers=1)),
    ("camera.png", (0.0, 1.0), RainStyle(28, length=35, width=3.0, density=0.045, brightness=0.38, layers=1)),
)


def near_rain(rng: np.random.Generator, angle: float) -> RainStyle:
    """Draw a rain of one layer of clear streaks: minutes of training are too short to learn veils of faint ones."""
    return RainStyle(
        angle,
        length=rng.uniform(20, 55),
        width=rng.uniform(2, 3.6),
        density=rng.uniform(0.035, 0.07),
        brightness=rng.uniform(0.28, 0.42),
        layers=1,
    )


def load_demo() -> Domains:
    """Build the embedded data; the same on every call, whatever the seed of the run.

    Returns:
        48 rainy and 8 clean halves of 8 photographs, and 3 validation pairs of 2 other scenes.

    Raises:
        UserError: scikit-image is missing, or does not bundle one of the photographs.
    """
    rng = np.random.default_rng(0)
    angles = rng.permutation(np.linspace(-35, 35, sum(rains for _, rains in TRAINING)))
    clean: dict[str, np.ndarray] = {}
    rainy: dict[str, np.ndarray] = {}
    for file, rains in TRAINING:
        image, name = photograph(file), Path(file).stem
        middle = image.shape[1] // 2
        clean[name] = image[:, :middle]
        for rain in range(rains):
            style = near_rain(rng, angles[len(rainy)])
            rainy[f"{name}-{rain}"] = render_rain(image[:, middle:], style, seed=len(rainy))
    return Domains(
        FolderSet.from_arrays(list(rainy), rainy.values()), FolderSet.from_arrays(list(clean), clean.values()), _pairs()
    )


def photograph(name: str) -> np.ndarray:
    """Read a photograph from scikit-image's folder, uint8 [H, W, 3]; nothing is imported or downloaded."""
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the embedded photographs come with scikit-image, which is missing: pip install scikit-image")
    path = Path(spec.submodule_search_locations[0]) / "data" / name
    if not path.is_file():
        raise UserError(f"this scikit-image does not bundle {name}: pip install -U scikit-image")
    return read_image(path)


def _pairs() -> list[Pair]:
    pairs = []
    for seed, (file, (start, end), style) in enumerate(VALIDATION, start=100):
        image = photograph(file)
        width = image.shape[1]
        clean = np.ascontiguousarray(image[:, round(start * width) : round(end * width)])
        pairs.append(Pair(Path(file).stem, render_rain(clean, style, seed), clean))
    return pairs
