"""ssim by csrc/cpu/ssim.h or kernels/cuda/ssim.cu."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _C, address, channels_last, dtype_name, on_device, planes, stream, threads


def forward(x: Tensor, y: Tensor, at_x: bool, at_y: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The mean SSIM, and its gradients at x and at y where asked for."""
    value = x.new_empty(())
    v_x = torch.empty_like(x) if at_x else None
    v_y = torch.empty_like(y) if at_y else None
    if x.is_cuda:
        launch(x, y, value, v_x, v_y)
    else:
        tensors = [address(tensor) for tensor in (x, y, value, v_x, v_y)]
        _C.ssim_cpu(dtype_name(x), *tensors, *planes(x), threads())
    return value, v_x, v_y


def launch(
    x: Tensor, y: Tensor, value: Tensor, v_x: Tensor | None, v_y: Tensor | None, errors: bool = False
) -> Tensor | None:
    """Fill value, v_x and v_y; returns the squared errors of the tiles where asked for, [images, tiles of an image]."""
    count, height, width = planes(x)
    moments = x.new_empty(4 * count * (height - 10) * (width - 10)) if v_x is not None or v_y is not None else None
    partials = x.new_empty(_C.ssim_cuda_partials(count, height, width), dtype=torch.float64)
    squares = torch.empty_like(partials) if errors else None
    tensors = [address(tensor) for tensor in (x, y, value, v_x, v_y, moments, partials, squares)]
    with on_device(x):
        _C.ssim_cuda(dtype_name(x), *tensors, count, height, width, channels_last(x), stream(x))
    return None if squares is None else squares.view(len(x), -1)


def backward(v_value: Tensor, v_x: Tensor | None, v_y: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Scale the gradients that `forward` made."""
    return None if v_x is None else v_x * v_value, None if v_y is None else v_y * v_value
