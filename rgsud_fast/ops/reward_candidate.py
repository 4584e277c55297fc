"""A candidate for the reward pool, made of what the derainer gave, and what guards ask about the layer it removes."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _backends as backends
from . import _check as check

WINDOW = 15  # pixels; wider than a streak, so rain averages out to little and a change of brightness does not
STRIDE = 8  # pixels between the windows of `change`


class RemovedLayer(NamedTuple):
    """What guards and penalties ask of a derained image and of the layer r = rainy - derained, [N] each."""

    variance: Tensor  # of the derained image; not finite where one of its values is not
    removed: Tensor  # mean |r|
    change: Tensor  # mean |average of r over a window of 15 x 15|, windows 8 apart, inside the image
    spread: Tensor  # mean over pixels of |r_R - r_G| + |r_G - r_B| + |r_B - r_R|: 0 for a grey layer
    low_frequency: Tensor  # mean |box15(r)|, around every pixel
    negative: Tensor  # mean max(-r, 0): 0 where nothing is darker than the background


def reward_candidate(
    rainy: Tensor, derained: Tensor, mirrored: Tensor | None = None, grey_layer: bool = False
) -> tuple[Tensor, RemovedLayer]:
    """Make a candidate of a derained image, and describe the layer that it takes away.

    The image is clamped to [0, 1]; what is infinite becomes NaN, so that a guard sees it. With `mirrored` it is the
    mean of both; with `grey_layer` then rainy - max(mean over channels of (rainy - image), 0), clamped. No gradient.

    Args:
        rainy: rainy images, [N, 3, H, W], in [0, 1].
        derained: what the derainer made of them, same shape.
        mirrored: what it made of their mirror images, same shape; mirrored back here.
        grey_layer: make what is taken away grey and nowhere negative.

    Returns:
        The candidates, [N, 3, H, W], float32 at least, and what there is to say about each.

    Raises:
        TypeError, ValueError: the images are not such tensors.
    """
    images = {"derained": derained} if mirrored is None else {"derained": derained, "mirrored": mirrored}
    if not (impl := _check(rainy, images)):
        return reference(rainy, derained, mirrored, grey_layer)
    rainy, derained, mirrored = _pack(rainy), _pack(derained), mirrored if mirrored is None else _pack(mirrored)
    image = torch.empty_like(rainy)
    return image, _as_layer(impl.forward(rainy, derained, mirrored, grey_layer, image))


def removed_layer(rainy: Tensor, derained: Tensor) -> RemovedLayer:
    """Describe the layer that a derained image takes away, the image being as it is; see `reward_candidate`."""
    if not (impl := _check(rainy, {"derained": derained})):
        return describe(rainy, derained)
    return _as_layer(impl.forward(_pack(rainy), _pack(derained), None, False, None))


def reference(
    rainy: Tensor, derained: Tensor, mirrored: Tensor | None = None, grey_layer: bool = False
) -> tuple[Tensor, RemovedLayer]:
    """The definition, in plain PyTorch."""
    rainy = rainy.detach().to(check.accumulate_dtype(rainy.dtype))
    image = _in_range(derained.detach().to(rainy))
    if mirrored is not None:
        image = (image + _in_range(mirrored.detach().to(rainy)).flip(3)) / 2
    if grey_layer:
        image = (rainy - (rainy - image).mean(dim=1, keepdim=True).clamp(min=0)).clamp(0, 1)
    return image, describe(rainy, image)


def describe(rainy: Tensor, image: Tensor) -> RemovedLayer:
    """The definition of `removed_layer`, in plain PyTorch."""
    rainy = rainy.detach().to(check.accumulate_dtype(rainy.dtype))
    return describe_layer(rainy, image.detach().to(rainy))


def describe_layer(rainy: Tensor, image: Tensor) -> RemovedLayer:
    """`describe` with the gradient to both, [N, 3, H, W] in a dtype to sum in."""
    layer = rainy - image
    red, green, blue = layer.unbind(1)
    windows = F.avg_pool2d(layer, [min(WINDOW, side) for side in layer.shape[2:]], stride=STRIDE)
    return RemovedLayer(
        variance=image.var(dim=(1, 2, 3)),
        removed=layer.abs().mean(dim=(1, 2, 3)),
        change=windows.abs().mean(dim=(1, 2, 3)),
        spread=((red - green).abs() + (green - blue).abs() + (blue - red).abs()).mean(dim=(1, 2)),
        low_frequency=box_mean(layer).abs().mean(dim=(1, 2, 3)),
        negative=-layer.clamp(max=0).mean(dim=(1, 2, 3)),
    )


def box_mean(image: Tensor, window: int = WINDOW) -> Tensor:
    """Average each pixel over a square window, over its part inside the image at borders.

    Running sums along one side, then the other: a fifth of the time of products with banded matrices at 480 x 320.

    Args:
        image: [N, C, H, W], any H and W.
        window: side in pixels, odd.

    Returns:
        The local means, same shape.
    """
    return _line_mean(_line_mean(image, window, 3), window, 2)


def _line_mean(image: Tensor, window: int, side: int) -> Tensor:
    size, reach = image.shape[side], window // 2
    sums = image.cumsum(side)
    before = torch.zeros_like(sums.narrow(side, 0, 1)).expand(*_with(sums.shape, side, reach + 1))
    after = sums.narrow(side, size - 1, 1).expand(*_with(sums.shape, side, reach))
    sums = torch.cat([before, sums, after], side)
    place = torch.arange(size, device=image.device)
    count = (place + reach + 1).clamp(max=size) - (place - reach).clamp(min=0)
    within = sums.narrow(side, window, size) - sums.narrow(side, 0, size)
    return within / (count if side == 3 else count[:, None]).to(image.dtype)


def _with(shape: torch.Size, side: int, size: int) -> list[int]:
    return [*shape[:side], size, *shape[side + 1 :]]


def _in_range(image: Tensor) -> Tensor:
    return image.clamp(0, 1) + 0 * image


def _pack(image: Tensor) -> Tensor:
    return image.detach().float().contiguous()


def _as_layer(numbers: Tensor) -> RemovedLayer:
    """[N, 6] float64, in the order of the fields."""
    return RemovedLayer(*numbers.float().unbind(1))


def _check(rainy: Tensor, others: dict[str, Tensor]) -> ModuleType | None:
    """Check the images; the backend that runs, None for the reference."""
    check.image("rainy", rainy)
    if rainy.shape[1] != 3:
        raise ValueError(f"rainy must be [N, 3, H, W], got {list(rainy.shape)}")
    for name, image in others.items():
        check.image(name, image)
        if (image.shape, image.device) != (rainy.shape, rainy.device):
            raise ValueError(
                f"{name} must have rainy's shape {list(rainy.shape)} on {rainy.device}, "
                f"got {list(image.shape)} on {image.device}"
            )
    impl = backends.choose("reward_candidate", rainy)
    return None if impl is backends.COMPILED else impl
