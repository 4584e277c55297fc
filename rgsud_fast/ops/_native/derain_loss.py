"""derain_loss by csrc/cpu/derain_loss.h or kernels/cuda/derain_loss.cu, on top of ssim's kernels."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from . import _C, address, dtype_name, on_device, stream, threads
from .ssim import launch


def forward(x: Tensor, y: Tensor, at_x: bool) -> tuple[Tensor, Tensor | None, Tensor]:
    """Negative PSNR and 1 - SSIM, [2]; for the backward the gradient of SSIM at x, and the squared errors."""
    values, mse = x.new_empty(2), x.new_empty(len(x), dtype=torch.float64)
    v_ssim = torch.empty_like(x) if at_x else None
    if x.is_cuda:
        squares = cast(Tensor, launch(x, y, values[1], v_ssim, None, errors=True))
        sizes = len(x), x[0].numel(), stream(x)
        with on_device(x):
            _C.derain_loss_forward_cuda(
                dtype_name(x), address(squares), squares.shape[1], address(values), address(mse), *sizes
            )
    else:
        tensors = [address(tensor) for tensor in (x, y, values, v_ssim, mse)]
        _C.derain_loss_forward_cpu(dtype_name(x), *tensors, *x.shape, threads())
    return values, v_ssim, mse


def backward(v_values: Tensor, x: Tensor, y: Tensor, v_ssim: Tensor, mse: Tensor) -> Tensor:
    """The gradient at x."""
    v_values, v_x = v_values.contiguous(), torch.empty_like(x)
    tensors = [address(tensor) for tensor in (v_values, x, y, v_ssim, mse, v_x)]
    sizes = len(x), x[0].numel()
    if x.is_cuda:
        with on_device(x):
            _C.derain_loss_backward_cuda(dtype_name(x), *tensors, *sizes, stream(x))
    else:
        _C.derain_loss_backward_cpu(dtype_name(x), *tensors, *sizes, threads())
    return v_x
