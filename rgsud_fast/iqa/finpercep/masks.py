"""Which region of a clean crop a faulty one replaces: shapes, segments of the picture, or where the rain falls."""

from __future__ import annotations

import warnings

import numpy as np
from scipy import ndimage
from skimage.segmentation import slic

SHAPES, SEGMENTS = 0.4, 0.3  # shares; the rest follows the rain
LEAST, MOST = 0.02, 0.2  # of the crop, that a shape covers
SEEN = 0.03  # of the rain, on the scale where white is 1


def draw_mask(clean: np.ndarray, rainy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the region to swap, feathered by a Gaussian of 1 pixel.

    Args:
        clean, rainy: the crop without and with its rain, [H, W, 3] in [0, 1].
        rng: the only source of randomness.

    Returns:
        float32 [H, W, 1] in [0, 1], 1 where the faulty image shows. Never empty.
    """
    kind = rng.random()
    if kind < SHAPES:
        mask = _shapes(clean.shape[0], clean.shape[1], rng)
    elif kind < SHAPES + SEGMENTS:
        mask = _segments(clean, rng)
    else:
        mask = _rain(clean, rainy, rng)
    if not mask.any():
        mask = _shapes(clean.shape[0], clean.shape[1], rng)
    return ndimage.gaussian_filter(mask.astype(np.float32), 1.0)[..., None]


def _shapes(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """One to three rectangles or ellipses."""
    rows, columns = np.ogrid[:height, :width]
    mask = np.zeros((height, width), bool)
    for _ in range(int(rng.integers(1, 4))):
        area, aspect = rng.uniform(LEAST, MOST) * height * width, np.exp(rng.uniform(-0.7, 0.7))
        half_height, half_width = np.sqrt(area * aspect) / 2, np.sqrt(area / aspect) / 2
        down = np.abs(rows - rng.uniform(0, height)) / half_height
        across = np.abs(columns - rng.uniform(0, width)) / half_width
        mask |= np.maximum(down, across) < 1 if rng.random() < 0.5 else down**2 + across**2 < 4 / np.pi
    return mask


def _segments(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A few superpixels of the picture."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a crop of one colour
        # By 10 rounds in place of 4 they take 5.7 ms in place of 2.7, a tenth of what a batch of samples takes.
        labels = slic(clean, n_segments=60, compactness=10, max_num_iter=4, start_label=0)
    count = int(labels.max()) + 1
    chosen = rng.permutation(count)[: max(int(rng.uniform(LEAST, MOST) * count), 1)]
    return np.isin(labels, chosen)


def _rain(clean: np.ndarray, rainy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Connected parts of the rain, a little wider than it, a random half of them."""
    light = ndimage.gaussian_filter(np.abs(rainy - clean).max(2), 1.0)
    labels, count = ndimage.label(ndimage.binary_dilation(light > SEEN, iterations=2))
    taken = rng.permutation(count)[: -(-count // 2)] + 1
    return np.isin(labels, taken)
