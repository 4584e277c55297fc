"""Scenes like photographs, small enough for tests, and folders of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from rgsud_fast.data import RainStyle, render_rain


def scene(seed: int, height: int = 100, width: int = 120) -> np.ndarray:
    """Blobs at several scales, and a little noise."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 110.0)
    for scale in (2, 8, 32):
        coarse = rng.normal(0, 7 * scale**0.5, (height // scale + 1, width // scale + 1, 3))
        coarse = 0.3 * coarse + 0.7 * coarse.mean(2, keepdims=True)
        image += coarse.repeat(scale, 0).repeat(scale, 1)[:height, :width]
    return np.rint(np.clip(image + rng.normal(0, 1.5, image.shape), 0, 255)).astype(np.uint8)


def pair(seed: int, height: int = 100, width: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """A scene in the rain, and without."""
    rng = np.random.default_rng([seed, 1])
    style = RainStyle(rng.uniform(-30, 30), rng.uniform(20, 40), rng.uniform(1.5, 2.5), 0.05, rng.uniform(0.3, 0.5))
    clean = scene(seed, height, width)
    return render_rain(clean, style, seed), clean


def write_all(folder: Path, images: list[np.ndarray]) -> Path:
    """Images as 000.png, 001.png ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:03d}.png")
    return folder


def write_pairs(folder: Path, pairs: list[tuple[np.ndarray, np.ndarray]]) -> Path:
    """Pairs in folders rainy and clean."""
    write_all(folder / "rainy", [rainy for rainy, _ in pairs])
    write_all(folder / "clean", [clean for _, clean in pairs])
    return folder
