"""What renderers share: blurs and samples of images as float32 [H, W, C], in numpy."""

from __future__ import annotations

import numpy as np

GAMMA = 2.2  # of the photographs' numbers


def box_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blur by three boxes, which come near a Gaussian; borders repeated.

    The pixel at each end of a box counts in part, so that three of them have the variance sigma^2 exactly.

    Args:
        image: float [H, W, C].
        sigma: in pixels; at most 0 changes nothing.

    Returns:
        float32, the same shape.
    """
    blurred = np.asarray(image, np.float32)
    if sigma <= 0:
        return blurred
    variance = sigma * sigma / 3  # of each box
    reach = int((np.sqrt(12 * variance + 1) - 1) / 2)
    inner = reach * (reach + 1) * (2 * reach + 1) / 3
    rest = np.float32((variance * (2 * reach + 1) - inner) / (2 * ((reach + 1) ** 2 - variance)))
    for axis in (0, 1):
        for _ in range(3):
            blurred = _box(blurred, axis, reach, rest)
    return blurred


def _box(image: np.ndarray, axis: int, reach: int, rest: np.float32) -> np.ndarray:
    length = image.shape[axis]
    border = [(0, 0)] * image.ndim
    border[axis] = (reach + 1, reach + 1)
    padded = np.moveaxis(np.pad(image, border, mode="edge"), axis, 0)
    start = np.zeros((1, *padded.shape[1:]))
    sums = np.concatenate([start, np.cumsum(padded, axis=0, dtype=np.float64)])
    inner = (sums[2 * reach + 2 : 2 * reach + 2 + length] - sums[1 : 1 + length]).astype(np.float32)
    ends = padded[:length] + padded[2 * reach + 2 : 2 * reach + 2 + length]
    return np.moveaxis((inner + rest * ends) / np.float32(2 * reach + 1 + 2 * rest), 0, axis)


def sample(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Look an image up between its pixels, bilinear; beyond its borders it is mirrored, however far.

    Args:
        image: float [H, W, C].
        rows, columns: where, any shape, in pixels.

    Returns:
        float32 [that shape, C].
    """
    top, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    down, right = (rows - top)[..., None].astype(np.float32), (columns - left)[..., None].astype(np.float32)
    upper, lower = (_mirrored(top + i, image.shape[0]) for i in (0, 1))
    first, second = (_mirrored(left + i, image.shape[1]) for i in (0, 1))
    above = image[upper, first] * (1 - right) + image[upper, second] * right
    below = image[lower, first] * (1 - right) + image[lower, second] * right
    return above * (1 - down) + below * down


def _mirrored(index: np.ndarray, length: int) -> np.ndarray:
    index = index % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)


def shrink(image: np.ndarray, by: int) -> np.ndarray:
    """Mean of each `by` x `by` pixels, borders repeated to whole squares."""
    height, width, channels = image.shape
    missing = [(0, -height % by), (0, -width % by), (0, 0)]
    padded = np.pad(image, missing, mode="edge")
    return padded.reshape(padded.shape[0] // by, by, padded.shape[1] // by, by, channels).mean((1, 3))


def enlarge(image: np.ndarray, by: int, height: int, width: int) -> np.ndarray:
    """The inverse of `shrink` but for the details: bilinear, float32 [height, width, C]."""
    rows = np.clip((np.arange(height) + 0.5) / by - 0.5, 0, image.shape[0] - 1)
    columns = np.clip((np.arange(width) + 0.5) / by - 0.5, 0, image.shape[1] - 1)
    return sample(image, *np.broadcast_arrays(rows[:, None], columns[None, :]))


def to_light(image: np.ndarray) -> np.ndarray:
    """Light, linear, float32, of a photograph: uint8, or floating point in [0, 1]."""
    scale = 255.0 if image.dtype == np.uint8 else 1.0
    return np.float32(1 / scale) ** GAMMA * image.astype(np.float32) ** GAMMA


def to_photograph(light: np.ndarray) -> np.ndarray:
    """The uint8 photograph of linear light; what is brighter than white is white."""
    return np.rint(255 * np.clip(light, 0, 1) ** np.float32(1 / GAMMA)).astype(np.uint8)
