"""A map of where an image is spoiled, laid on the grey image as heat: black, red, yellow."""

from __future__ import annotations

import numpy as np

LEGEND = "grey is clean, red is spoiled, yellow is spoiled most"
FULL = 0.6  # of the map, from which nothing of the image shows through
_STEPS = np.linspace(0, 1, 256)
RAMP = np.stack([np.clip(2 * _STEPS, 0, 1), np.clip(2 * _STEPS - 1, 0, 1), 0 * _STEPS], 1).astype(np.float32)


def heat(image: np.ndarray, spoiled: np.ndarray) -> np.ndarray:
    """Lay a map on an image.

    Args:
        image: uint8 [H, W, 3].
        spoiled: [H, W] in [0, 1], 1 = spoiled.

    Returns:
        uint8 [H, W, 3].
    """
    spoiled = np.clip(np.nan_to_num(spoiled.astype(np.float32)), 0, 1)
    grey = (image @ np.array([0.299, 0.587, 0.114], np.float32))[..., None] / 255
    share = np.minimum(spoiled / FULL, 1)[..., None]
    mixed = (1 - share) * grey + share * RAMP[np.rint(255 * spoiled).astype(int)].clip(0.0, 1.0)
    return np.rint(255 * mixed).astype(np.uint8)
