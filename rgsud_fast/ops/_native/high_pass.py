"""high_pass and with_high_pass by csrc/cpu/high_pass.h or kernels/cuda/high_pass.cu."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _C, address, dtype_name, on_device, planes, stream, threads


def forward(image: Tensor, beside: bool = False) -> Tensor:
    """image - blur(image); `beside` the image, along the channels, where asked for."""
    images, channels, height, width = image.shape
    out = image.new_empty(images, 2 * channels, height, width) if beside else torch.empty_like(image)
    return _run(image, out, adjoint=False, beside=channels if beside else 0)


def backward(v_out: Tensor, beside: bool = False) -> Tensor:
    """The gradient at the image: v_detail - blur^T(v_detail), and that at the image `beside` added."""
    images, channels, height, width = v_out.shape
    out = v_out.new_empty(images, channels // 2, height, width) if beside else torch.empty_like(v_out)
    return _run(v_out, out, adjoint=True, beside=channels // 2 if beside else 0)


def _run(given: Tensor, out: Tensor, adjoint: bool, beside: int) -> Tensor:
    size = planes(out if adjoint else given)
    if given.is_cuda and given.dtype != torch.float16:
        with on_device(given):
            _C.high_pass_cuda(dtype_name(given), address(given), address(out), *size, adjoint, beside, stream(given))
        return out
    if given.dtype in (torch.float16, torch.bfloat16):
        wide = torch.empty_like(out, dtype=torch.float32)
        return _run(given.float(), wide, adjoint, beside).to(given.dtype)
    _C.high_pass_cpu(dtype_name(given), address(given), address(out), *size, adjoint, beside, threads())
    return out
