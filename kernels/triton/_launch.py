"""Parts of every launch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import triton.language as tl
from torch import Tensor


def on_device(x: Tensor) -> AbstractContextManager:
    """Make the tensor's GPU the current one: Triton launches there, and it need not be the tensor's."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def accumulator(x: Tensor) -> tl.dtype:
    """The dtype sums are kept in."""
    return tl.float64 if x.dtype == torch.float64 else tl.float32
