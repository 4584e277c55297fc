"""The device of a run, and tensors on their way to it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UserError
from .device_names import check_device


def pick_device(name: str = "auto") -> torch.device:
    """The device a name stands for: auto is the current CUDA device where there is one, else the CPU.

    Raises:
        UserError: CUDA was asked for and cannot be used, or the name is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_device(name)
    try:
        device = torch.device(name)
    except RuntimeError:  # a number beyond any machine's
        raise UserError(f"device {name}: GPUs are counted from 0, and no machine has so many") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {name}: PyTorch sees no CUDA GPU here; use cpu, or check nvidia-smi and the driver")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {name}: there are {torch.cuda.device_count()} GPUs, counted from 0")
    return device


def memory_layout(device: torch.device) -> torch.memory_format:
    """How images and weights lie in memory: the GPU's convolutions want the channels last, the CPU kernels first."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def to_device(value: Tensor, device: torch.device) -> Tensor:
    """The tensor on that device; from pinned memory the copy to a GPU does not keep the host waiting."""
    if device.type != "cuda" or value.is_cuda:
        return value.to(device)
    return value.pin_memory().to(device, non_blocking=True)
