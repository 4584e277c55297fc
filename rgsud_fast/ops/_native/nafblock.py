"""nafblock by csrc/cpu/nafblock.h."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _C, address, dtype_name, threads

# Wider blocks are matrix products before all else: those are left to PyTorch around the native layernorm2d.
MOST_CHANNELS = 64


def forward(x: Tensor, weights: Sequence[Tensor], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """The block's output; the input of its first gate, [N, 2C, H, W], and the mean of that gate's output, [N, C]."""
    images, channels, height, width = x.shape
    out, gate = torch.empty_like(x), x.new_empty(images, 2 * channels, height, width)
    mean = x.new_empty(images, channels)
    pointers = [address(weight) for weight in weights]
    _C.nafblock_forward_cpu(
        dtype_name(x), address(x), pointers, address(out), address(gate), address(mean), *x.shape, eps, threads()
    )
    return out, gate, mean


def backward(
    v_out: Tensor, x: Tensor, gate: Tensor, mean: Tensor, weights: Sequence[Tensor], eps: float
) -> list[Tensor]:
    """Gradients at x and at every weight."""
    v_out, v_x, flat = v_out.contiguous(), torch.empty_like(x), x.new_empty(sum(weight.numel() for weight in weights))
    pointers = [address(weight) for weight in weights]
    saved = [address(tensor) for tensor in (gate, mean, v_x, flat)]
    _C.nafblock_backward_cpu(dtype_name(x), address(v_out), address(x), pointers, *saved, *x.shape, eps, threads())
    pieces = flat.split([weight.numel() for weight in weights])
    return [v_x, *(piece.view_as(weight) for piece, weight in zip(pieces, weights, strict=True))]
