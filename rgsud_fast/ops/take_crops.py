"""Crops of images that lie in memory as bytes, and of their rewards: what a training step reads."""

from __future__ import annotations

from typing import Any, overload

import torch
from torch import Tensor

from . import _backends as backends
from . import _check as check

COLUMNS = 6  # of a window: offset, height, width, top, left, flip
FAR = 2**62  # top or left beyond it: the sum with a place in the crop might overflow; csrc/bindings.cpp too


@overload
def take_crops(pixels: Tensor, windows: Tensor, side: int) -> tuple[Tensor, None]: ...


@overload
def take_crops(
    pixels: Tensor, windows: Tensor, side: int, versions: Tensor, shares: Tensor
) -> tuple[Tensor, Tensor]: ...


def take_crops(
    pixels: Tensor, windows: Tensor, side: int, versions: Tensor | None = None, shares: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Cut windows out of images and turn bytes into floats, in one pass; of several versions the weighted mean.

    Images of all sizes lie one after another, [H, W, 3] each. A window that leaves its image goes on by reflection at
    the last row or column.

    Args:
        pixels: uint8 [B], all images.
        windows: int64 [N, 6], per crop: where its image begins in the bytes, the image's height and width, the
            window's top and left pixel (not below 0), and whether it is mirrored left to right (0 or 1).
        side: height and width of the crops, in pixels.
        versions: uint8 [K, B]: other images in the same places, such as the rewards.
        shares: float32 [N, K]: the weight of each version in each crop.

    Returns:
        Crops of `pixels`, and of `versions` where given: float32 [N, 3, side, side] in [0, 1], on the device of
        `pixels`.

    Raises:
        TypeError, ValueError: an argument is not such a tensor; on the CPU also a window of an image that does not
            lie inside the bytes. On the GPU nothing looks at the windows, since that would wait for the device: the
            Triton kernel reads zeros for places outside the bytes, and the reference fails.
    """
    _check(pixels, windows, side, versions, shares)
    impl = backends.choose("take_crops", pixels)
    if impl is None and not pixels.is_cuda:  # a kernel looks by itself
        _check_places(windows, len(pixels))
    if impl is None or impl is backends.COMPILED:
        return reference(pixels, windows, side, versions, shares)
    layout = torch.channels_last if pixels.is_cuda else torch.contiguous_format
    sizes = len(windows), 3, side, side
    crops = torch.empty(sizes, dtype=torch.float32, device=pixels.device, memory_format=layout)
    rewards = None if versions is None else torch.empty_like(crops)
    impl.forward(pixels, windows.contiguous(), versions, shares, crops, rewards)
    return crops, rewards


def reference(
    pixels: Tensor, windows: Tensor, side: int, versions: Tensor | None = None, shares: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """The definition, in plain PyTorch."""
    offset, height, width, top, left, flip = (column[:, None] for column in windows.unbind(1))
    places = torch.arange(side, device=pixels.device)
    rows = _reflect(top + places, height)
    columns = _reflect(left + torch.where(flip > 0, side - 1 - places, places), width)
    at = offset[:, :, None] + 3 * (rows[:, :, None] * width[:, :, None] + columns[:, None, :])
    at = at[:, None] + torch.arange(3, device=pixels.device)[:, None, None]  # [N, 3, side, side]
    crops = pixels[at].float() / 255
    if versions is None or shares is None:
        return crops, None
    weights = shares.T[:, :, None, None, None]
    return crops, (weights * (versions[:, at].float() / 255)).sum(0)


def _reflect(at: Tensor, size: Tensor) -> Tensor:
    """Places on axes of `size` pixels that are continued by reflection."""
    period = (2 * (size - 1)).clamp(min=1)
    at = at % period
    return torch.where(at < size, at, period - at)


def _check(pixels: Tensor, windows: Tensor, side: int, versions: Tensor | None, shares: Tensor | None) -> None:
    wanted: list[tuple[str, Any, torch.dtype, int]]
    wanted = [("pixels", pixels, torch.uint8, 1), ("windows", windows, torch.int64, 2)]
    if versions is not None:
        wanted += [("versions", versions, torch.uint8, 2), ("shares", shares, torch.float32, 2)]
    for name, value, dtype, dimensions in wanted:
        check.tensor(name, value)
        if value.dtype != dtype or value.is_meta:
            raise TypeError(f"{name} must be a tensor of {dtype} with data, got {value.dtype} on {value.device}")
        if value.dim() != dimensions or value.device != pixels.device:
            got = f"{list(value.shape)} on {value.device}"
            raise ValueError(f"{name} must have {dimensions} dimensions on {pixels.device}, got {got}")
        if name in ("pixels", "versions") and not value.is_contiguous():
            raise ValueError(f"{name} must be contiguous")
    if windows.shape[1] != COLUMNS or len(windows) == 0:
        raise ValueError(f"windows must be [N, {COLUMNS}], not empty, got {list(windows.shape)}")
    check.whole("side", side)
    if side < 1:
        raise ValueError(f"side must be positive, got {side}")
    check.output_size("side", len(windows), 3, side, side)
    if versions is None or shares is None:
        return
    if len(versions) < 1 or versions.shape[1] != len(pixels) or shares.shape != (len(windows), len(versions)):
        raise ValueError(
            f"versions must be [K, {len(pixels)}] and shares [{len(windows)}, K], K at least 1, "
            f"got {list(versions.shape)} and {list(shares.shape)}"
        )


def _check_places(windows: Tensor, size: int) -> None:
    offset, height, width, top, left, _ = windows.unbind(1)
    inside = (offset >= 0) & (height > 0) & (width > 0) & (top >= 0) & (left >= 0) & (torch.maximum(top, left) < FAR)
    inside &= (height <= size // 3 // width.clamp(min=1)) & (offset <= size - 3 * height * width)
    if not inside.all():
        raise ValueError(f"window {int((~inside).nonzero()[0])} lies outside the pixels")
