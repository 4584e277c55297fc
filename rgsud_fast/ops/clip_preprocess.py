"""The input of a CLIP image encoder: a square of fixed side out of the middle, resized and normalised."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _backends as backends
from . import _check as check
from ._taps import antialias_taps

SIDE = 224  # pixels
MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP (Radford et al., 2021)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def clip_preprocess(images: Tensor, side: int = SIDE) -> Tensor:
    """Clamp, resize the shorter side, cut the middle square and normalise (CLIP, Radford et al., 2021).

    Equivalent to: `center_crop(interpolate(images.clamp(0, 1), shorter side to `side`, bicubic, antialias)) - mean) /
    deviation`. No gradient.

    Args:
        images: [N, 3, H, W] in [0, 1], all of one size.
        side: of the square, in pixels.

    Returns:
        [N, 3, side, side] in the dtype of images.

    Raises:
        TypeError, ValueError: images is not such a tensor, or side no positive integer. The reference, which makes
            the whole resized image, also refuses one of far too long a shape.
    """
    check.image("images", images)
    if images.shape[1] != 3:
        raise ValueError(f"images must be [N, 3, H, W], got {list(images.shape)}")
    check.whole("side", side)
    if side < 1:
        raise ValueError(f"side must be positive, got {side}")
    check.output_size("side", len(images), 3, side, side)
    if not (impl := backends.choose("clip_preprocess", images)) or impl is backends.COMPILED:
        return reference(images, side)
    wide = images.detach().to(check.accumulate_dtype(images.dtype)).contiguous()
    height, width = images.shape[2:]
    window = middle(height, width, side)
    down = antialias_taps(height, window.height, window.top, side, images.device)
    across = antialias_taps(width, window.width, window.left, side, images.device)
    return impl.forward(wide, side, down, across, MEAN, DEVIATION).to(images.dtype)


def reference(images: Tensor, side: int = SIDE) -> Tensor:
    """The definition, in plain PyTorch."""
    wide = images.detach().to(check.accumulate_dtype(images.dtype)).clamp(0, 1)
    height, width = images.shape[2:]
    window = middle(height, width, side)
    sizes = len(images), 3, window.height, window.width  # of a line of pixels far too large
    check.output_size("the shape of images", *sizes)
    resized = F.interpolate(wide, (window.height, window.width), mode="bicubic", antialias=True)
    square = resized[:, :, window.top : window.top + side, window.left : window.left + side]
    mean, deviation = (torch.tensor(values).to(square)[:, None, None] for values in (MEAN, DEVIATION))
    return ((square - mean) / deviation).to(images.dtype)


class Window(NamedTuple):
    """The size an image is resized to, and where the square begins in it, in pixels."""

    height: int
    width: int
    top: int
    left: int


def middle(height: int, width: int, side: int) -> Window:
    """As torchvision's Resize and CenterCrop round."""
    longer = int(side * max(height, width) / min(height, width))
    height, width = (longer, side) if height > width else (side, longer)
    return Window(height, width, round((height - side) / 2), round((width - side) / 2))
