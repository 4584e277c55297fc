"""high_pass and with_high_pass by csrc/cpu/high_pass.h or kernels/cuda/high_pass.cu."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _C, address, dtype_name, on_device, planes, stream, threads


def forward(image: Tensor) -> Tensor:
    """image - blur(image)."""
    return _run(image, torch.empty_like(image), adjoint=False)


def backward(v_detail: Tensor) -> Tensor:
    """v_detail - blur^T(v_detail)."""
    return _run(v_detail, torch.empty_like(v_detail), adjoint=True)


def beside_forward(image: Tensor) -> Tensor:
    """The image, then image - blur(image), along the channels."""
    images, channels, height, width = image.shape
    return _run(image, image.new_empty(images, 2 * channels, height, width), adjoint=False, beside=channels)


def beside_backward(v_both: Tensor) -> Tensor:
    """The gradient at the image from those at both."""
    images, channels, height, width = v_both.shape
    channels //= 2
    return _run(v_both, v_both.new_empty(images, channels, height, width), adjoint=True, beside=channels)


def _run(given: Tensor, out: Tensor, adjoint: bool, beside: int = 0) -> Tensor:
    size = planes(out if adjoint else given)
    if given.is_cuda and given.dtype != torch.float16:
        with on_device(given):
            _C.high_pass_cuda(dtype_name(given), address(given), address(out), *size, adjoint, beside, stream(given))
        return out
    if given.dtype in (torch.float16, torch.bfloat16):
        return _run(given.float(), out.float(), adjoint, beside).to(given.dtype)
    _C.high_pass_cpu(dtype_name(given), address(given), address(out), *size, adjoint, beside, threads())
    return out
