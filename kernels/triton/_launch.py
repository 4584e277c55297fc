"""Parts of every launch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import triton.language as tl
from torch import Tensor


def on_device(x: Tensor) -> AbstractContextManager:
    """Make the tensor's GPU the current one: Triton launches there, and it need not be the tensor's."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def shared_memory(x: Tensor) -> int:
    """Bytes of shared memory that a program may have on the tensor's GPU; sm_89's, the least, on the CPU."""
    if not x.is_cuda:
        return 99 << 10
    return int(torch.cuda.get_device_properties(x.device).shared_memory_per_block_optin)


def warps(x: Tensor) -> int:
    """Warps of a program that multiplies 128 x 64: a group of Hopper's, else twice as many, or registers spill."""
    return 4 if x.is_cuda and torch.cuda.get_device_capability(x.device) >= (9, 0) else 8


def accumulator(x: Tensor) -> tl.dtype:
    """The dtype sums are kept in."""
    return tl.float64 if x.dtype == torch.float64 else tl.float32
