"""Checks that every op makes of its arguments, once, at the border."""

from __future__ import annotations

import torch
from torch import Tensor

_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def image(name: str, value: Tensor, least: int = 1) -> None:
    """Demand a floating-point [N, C, H, W] with H and W of at least `least` pixels.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: another shape; the message shows it.
    """
    if not isinstance(value, Tensor) or value.dtype not in _FLOATS:
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{name} must be a floating-point tensor, got {got}")
    if value.dim() != 4 or 0 in value.shape or value.shape[2] < least or value.shape[3] < least:
        wanted = "[N, C, H, W]" + (f" with H and W of at least {least}" if least > 1 else "")
        raise ValueError(f"{name} must be {wanted}, none empty, got {list(value.shape)}")


def alike(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Demand the shape, dtype and device of another argument.

    Raises:
        TypeError: not a tensor.
        ValueError: they differ; the message shows both.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if (value.shape, value.dtype, value.device) != (other.shape, other.dtype, other.device):
        raise ValueError(
            f"{name} must match {other_name}: {list(other.shape)} {other.dtype} on {other.device}, "
            f"got {list(value.shape)} {value.dtype} on {value.device}"
        )


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype sums are kept in: float32 at least."""
    return torch.float64 if dtype == torch.float64 else torch.float32
