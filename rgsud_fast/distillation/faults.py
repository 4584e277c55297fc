"""Faults that pairs of public sets have, planted into good pairs: what judges find of them says what they are worth."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

Pair = tuple[np.ndarray, np.ndarray]  # rainy and target, uint8 [H, W, 3] each
Fault = Callable[[np.ndarray, np.ndarray, np.random.Generator], Pair]
OTHER = "another scene's target"  # needs a second pair: `plant` is given one


def plant(name: str, pair: Pair, other: Pair, rng: np.random.Generator) -> Pair:
    """Spoil a good pair.

    Args:
        name: of `FAULTS`, or `OTHER`.
        pair: rainy and target, uint8 [H, W, 3].
        other: a good pair of another scene, of any size.
        rng: of what is drawn.

    Returns:
        The spoiled pair, of the same size.
    """
    if name != OTHER:
        return FAULTS[name](*pair, rng)
    height, width = pair[0].shape[:2]
    return pair[0], np.array(Image.fromarray(other[1]).resize((width, height), Image.Resampling.BICUBIC))


def _leftover(rainy: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> Pair:
    return rainy, _rounded(target + rng.uniform(0.25, 0.6) * (rainy.astype(np.float64) - target))


def _coloured(rainy: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> Pair:
    tint = rng.permutation([1.3, 1.0, 0.4])
    return _rounded(target + tint * (rainy.astype(np.float64) - target)), target


def _grid(rainy: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> Pair:
    columns = np.arange(rainy.shape[1]) % int(rng.integers(12, 30)) < 2
    return _rounded(target + 70.0 * columns[None, :, None]), target


def _shifted(rainy: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> Pair:
    by = rng.integers(2, 5, 2) * rng.choice([-1, 1], 2)
    return rainy, np.roll(target, by, (0, 1))


def _jpeg(rainy: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> Pair:
    held = io.BytesIO()
    Image.fromarray(target).save(held, "JPEG", quality=int(rng.integers(10, 26)))
    return rainy, np.array(Image.open(held))


def _soft_target(rainy: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> Pair:
    return rainy, _soft(target, rng)


def _soft_rainy(rainy: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> Pair:
    return _soft(rainy, rng), target


def _dark(rainy: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> Pair:
    return _rounded(2.0 * target - rainy), target


def _pasted(rainy: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> Pair:
    rain = rainy.astype(np.float64) - target
    height, width = (length // 2 for length in rain.shape[:2])
    tile = rain[:height, :width]
    rain = np.tile(tile, (3, 3, 1))[: rain.shape[0], : rain.shape[1]]
    return _rounded(target + rain), target


def _cast(rainy: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> Pair:
    return _rounded(rainy * rng.permutation([1.12, 1.0, 0.85])), target


FAULTS: dict[str, Fault] = {
    "rain left in the target": _leftover,
    "coloured rain": _coloured,
    "a grid for rain": _grid,
    "target shifted by 2 to 4 pixels": _shifted,
    "target compressed, JPEG 10 to 25": _jpeg,
    "soft target": _soft_target,
    "soft input": _soft_rainy,
    "dark rain": _dark,
    "tile pasted several times": _pasted,
    "colour cast of the input": _cast,
}


def _soft(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sigma = rng.uniform(1.0, 2.0)
    return _rounded(ndimage.gaussian_filter(image.astype(np.float64), (sigma, sigma, 0)))


def _rounded(image: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)
