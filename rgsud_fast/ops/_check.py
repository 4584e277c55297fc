"""Checks that every op makes of its arguments, once, at the border."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
MOST = 2**28  # elements that an op makes of next to nothing, such as the copy of an expanded scalar: 1 GiB of float32
_LARGEST = 2**48  # elements of any tensor; beyond that PyTorch's own sizes in bytes overflow


def tensor(name: str, value: Tensor) -> None:
    """Demand a dense tensor that is not of a size only its strides can have.

    Raises:
        TypeError: not a dense tensor.
        ValueError: far more elements than memory, as of a scalar expanded without bound.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.layout is not torch.strided or value.is_nested:
        raise TypeError(f"{name} must be a dense tensor, got {'a nested one' if value.is_nested else value.layout}")
    elements = value.numel()
    if elements > MOST:
        owned = value.untyped_storage().nbytes() // value.element_size()
        if elements > min(max(owned, MOST), _LARGEST):
            raise ValueError(f"{name} is too large: {list(value.shape)} in the memory of {owned} elements")


def image(name: str, value: Tensor, least: int = 1) -> None:
    """Demand a floating-point [N, C, H, W] with H and W of at least `least` pixels.

    Raises:
        TypeError: not a dense floating-point tensor.
        ValueError: another shape; the message shows it.
    """
    tensor(name, value)
    if value.dtype not in _FLOATS:
        raise TypeError(f"{name} must be a floating-point tensor, got {value.dtype}")
    if value.dim() != 4 or 0 in value.shape or value.shape[2] < least or value.shape[3] < least:
        wanted = "[N, C, H, W]" + (f" with H and W of at least {least}" if least > 1 else "")
        raise ValueError(f"{name} must be {wanted}, none empty, got {list(value.shape)}")


def alike(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Demand the shape, dtype and device of another argument.

    Raises:
        TypeError: not a tensor.
        ValueError: they differ; the message shows both.
    """
    tensor(name, value)
    if (value.shape, value.dtype, value.device) != (other.shape, other.dtype, other.device):
        raise ValueError(
            f"{name} must match {other_name}: {list(other.shape)} {other.dtype} on {other.device}, "
            f"got {list(value.shape)} {value.dtype} on {value.device}"
        )


def output_size(name: str, *sizes: int) -> None:
    """Demand that what an op is to make, of sides that no argument has, stays within MOST elements.

    Raises:
        ValueError: it does not.
    """
    if math.prod(sizes) > MOST:
        raise ValueError(f"{name} asks for {' x '.join(map(str, sizes))} elements, more than {MOST}")


def number(name: str, value: float) -> None:
    """Demand a finite number.

    Raises:
        TypeError: not a number.
        ValueError: infinite, NaN, or beyond what every kernel takes.
    """
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not -1e18 < value < 1e18:
        raise ValueError(f"{name} must be finite and below 1e18, got {value!r:.40}")


def whole(name: str, value: int) -> None:
    """Demand an integer.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype sums are kept in: float32 at least."""
    return torch.float64 if dtype == torch.float64 else torch.float32
