"""What every launch needs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def on_device(x: Tensor) -> AbstractContextManager:
    """Make the tensor's GPU the current one: Triton launches there, and it need not be the tensor's."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
