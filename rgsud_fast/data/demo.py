"""The embedded data: photographs bundled with scikit-image as two domains and held-out pairs, with rendered rain.

A small, honest test bed, not a benchmark: nine scenes, four of them grey, and rain that is rendered.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..errors import UserError
from .cache import ImageSet
from .domains import Domains, Pair
from .images import read_image
from .rain import RainStyle, random_style, render_rain

# Each photograph of the domains is split in the middle: the left half stays clean, the right half gets the rain. So the
# domains share no pixel, and yet differ in rain much more than in what they show. Colour photographs get two rains.
_TRAINING = (("astronaut.png", 2), ("chelsea.png", 2), ("coffee.png", 2), ("rocket.jpg", 2),
             ("brick.png", 1), ("grass.png", 1), ("gravel.png", 1), ("coins.png", 1))  # fmt: skip


def load_demo() -> Domains:
    """Build the embedded domains; the same on every call."""
    names, rainy, cleans = [], [], []
    rng = np.random.default_rng(2605)
    total = sum(rains for _, rains in _TRAINING)
    angles = np.linspace(-35, 35, total)
    angles = angles[rng.permutation(total)]
    for file, rains in _TRAINING:
        image = _photograph(file)
        middle = image.shape[1] // 2
        cleans.append(image[:, :middle])
        for k in range(rains):
            style = random_style(rng, angles[len(names)])
            names.append(f"{Path(file).stem}-{k}")
            rainy.append(render_rain(image[:, middle:], style, seed=len(names)))
    return Domains(
        ImageSet.from_arrays(names, rainy),
        ImageSet.from_arrays([Path(file).stem for file, _ in _TRAINING], cleans),
        _validation(),
    )


def _validation() -> list[Pair]:
    left, right, camera = (_photograph(n) for n in ("motorcycle_left.png", "motorcycle_right.png", "camera.png"))
    half = left.shape[1] // 2
    scenes = {
        "motorcycle-rear": (left[:, :half], RainStyle(angle=-20, length=30, width=2, density=0.035, brightness=0.32)),
        "motorcycle-front": (right[:, half:], RainStyle(angle=12, length=45, width=2.5, density=0.03, brightness=0.34)),
        "camera": (camera, RainStyle(angle=28, length=35, width=2.2, density=0.032, brightness=0.38)),
    }
    return [
        Pair(name, render_rain(clean, style, seed=100 + i), clean)
        for i, (name, (clean, style)) in enumerate(scenes.items())
    ]


def _photograph(name: str) -> np.ndarray:
    """Read a photograph from scikit-image's package folder, without importing it: nothing is downloaded."""
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the embedded photographs come with scikit-image, which is missing: pip install scikit-image")
    path = Path(spec.submodule_search_locations[0]) / "data" / name
    if not path.is_file():
        raise UserError(f"this scikit-image does not bundle {name}: pip install -U scikit-image")
    return read_image(path)
