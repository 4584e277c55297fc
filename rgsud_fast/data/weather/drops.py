"""Drops on the pane or lens: small wide-angle lenses, out of focus, that show the scene upside down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .planes import box_blur, sample

AREA = 480 * 320  # of the image for which radii are given; in another they grow with the square root of its area
_DIM_RIM, _HIGHLIGHT = 0.55, 0.1  # the highlight as a share of the scene's bright parts
_BRIGHT = 95  # their percentile
_HARMONICS = np.array([2, 3, 4])
_HIGHLIGHT_AT, _HIGHLIGHT_AREA = (-0.45, -0.35), 0.06  # row and column in radii


@dataclass(frozen=True)
class DropStyle:
    """How drops look. Radii are in pixels of an image of 480 x 320."""

    count: int = 25
    smallest: float = 5.0
    largest: float = 26.0  # radii are drawn evenly by their logarithm
    least_aspect: float = 0.95  # height over width
    most_aspect: float = 1.45
    bumps: float = 0.05  # standard deviation of the second harmonic of the outline; of the k-th 2 / k of it
    defocus: float = 0.2  # width of the soft rim, in radii; the content is blurred by half of it
    least_field: float = 2.0  # of view, in radii: how far from the drop the scene seen in it reaches
    most_field: float = 5.0
    least_opacity: float = 0.75


def render_drops(image: np.ndarray, style: DropStyle, seed: int) -> np.ndarray:
    """Lay drops over an image.

    With rho the distance from a drop's middle in outlines, its pixel at p shows the scene at
    c - field (0.55 + 0.45 rho^2) (p - c): upside down, and farthest at the rim. It is darkened by 1 - 0.55 rho^6, has a
    faint highlight, as bright as the scene allows, and is blurred; its opacity falls smoothly over the rim.

    Args:
        image: [H, W, 3] in [0, 1], floating point.
        style: how they look.
        seed: the same seed and style give the same drops.

    Returns:
        float32, the same shape.
    """
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    scale = np.sqrt(height * width / AREA)
    scene = np.asarray(image, np.float32)
    result = scene.copy()
    radii = scale * np.exp(rng.uniform(np.log(style.smallest), np.log(style.largest), style.count))
    highlight = _HIGHLIGHT * float(np.percentile(scene, _BRIGHT))
    for radius in np.sort(radii):  # large ones last: they swallow the small
        row, column = rng.uniform(0, height), rng.uniform(0, width)
        _lay_drop(result, scene, row, column, max(float(radius), 1.5), highlight, style, rng)
    return result


def _lay_drop(
    result: np.ndarray,
    scene: np.ndarray,
    row: float,
    column: float,
    radius: float,
    highlight: float,
    style: DropStyle,
    rng: np.random.Generator,
) -> None:
    """Lay one drop over `result`, which shows `scene`."""
    aspect = rng.uniform(style.least_aspect, style.most_aspect)
    waves, phases = style.bumps * rng.standard_normal(3) * 2 / _HARMONICS, rng.uniform(0, 2 * np.pi, 3)
    field = rng.uniform(style.least_field, style.most_field)
    opacity = rng.uniform(style.least_opacity, 1)
    reach = int(np.ceil(radius * (1 + 4 * style.bumps) * max(aspect, 1) * (1 + style.defocus))) + 1
    top, bottom = max(int(row) - reach, 0), min(int(row) + reach + 1, scene.shape[0])
    left, right = max(int(column) - reach, 0), min(int(column) + reach + 1, scene.shape[1])
    if top >= bottom or left >= right:
        return
    # u, v: place in the drop, in radii.
    u = (np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(row)) / np.float32(radius * aspect)
    v = (np.arange(left, right, dtype=np.float32)[None, :] - np.float32(column)) / np.float32(radius)
    turn = np.arctan2(u, v)
    outline = 1 + sum(a * np.cos(k * turn + phi) for k, a, phi in zip(_HARMONICS, waves, phases, strict=True))
    rho = np.hypot(u, v) / outline
    away = -radius * field * (0.55 + 0.45 * np.minimum(rho, 1) ** 2)
    seen = sample(scene, row + away * u * aspect, column + away * v)
    light = 1 - _DIM_RIM * np.minimum(rho, 1) ** 6
    apart = (u - _HIGHLIGHT_AT[0]) ** 2 + (v - _HIGHLIGHT_AT[1]) ** 2
    seen = seen * light[..., None] + (highlight * np.exp(-apart / _HIGHLIGHT_AREA))[..., None]
    seen = box_blur(seen, style.defocus * radius / 2)
    step = np.clip((1 + style.defocus / 2 - rho) / style.defocus, 0, 1)
    alpha = (opacity * step * step * (3 - 2 * step))[..., None].astype(np.float32)
    window = result[top:bottom, left:right]
    window += alpha * (np.clip(seen, 0, 1).astype(np.float32) - window)
