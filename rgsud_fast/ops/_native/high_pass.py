"""high_pass by csrc/cpu/high_pass.h or kernels/cuda/high_pass.cu."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _C, address, dtype_name, on_device, planes, stream, threads


def forward(image: Tensor) -> Tensor:
    """image - blur(image)."""
    return _run(image, adjoint=False)


def backward(v_detail: Tensor) -> Tensor:
    """v_detail - blur^T(v_detail)."""
    return _run(v_detail, adjoint=True)


def _run(image: Tensor, adjoint: bool) -> Tensor:
    if image.is_cuda and image.dtype != torch.float16:
        out = torch.empty_like(image)
        with on_device(image):
            _C.high_pass_cuda(dtype_name(image), address(image), address(out), *planes(image), adjoint, stream(image))
        return out
    if image.dtype in (torch.float16, torch.bfloat16):
        return _run(image.float(), adjoint).to(image.dtype)
    out = torch.empty_like(image)
    _C.high_pass_cpu(dtype_name(image), address(image), address(out), *planes(image), adjoint, threads())
    return out
