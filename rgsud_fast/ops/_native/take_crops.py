"""take_crops by csrc/cpu/take_crops.h."""

from __future__ import annotations

from torch import Tensor

from . import _C, address, threads


def forward(
    pixels: Tensor,
    windows: Tensor,
    versions: Tensor | None,
    shares: Tensor | None,
    crops: Tensor,
    rewards: Tensor | None,
) -> None:
    """Fill crops, and rewards where there are versions."""
    shares = None if shares is None else shares.contiguous()
    tensors = [address(tensor) for tensor in (pixels, versions, windows, shares, crops, rewards)]
    kept = 0 if versions is None else len(versions)
    _C.take_crops_cpu(*tensors, len(windows), crops.shape[2], len(pixels), kept, threads())
