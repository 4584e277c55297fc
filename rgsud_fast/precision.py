"""Which numbers training computes in. The policy: networks in bfloat16 where that is on, all else in float32.

Losses, the statistics of normalisations, gradients' norms, optimisers and moving averages stay in float32; so do the
networks' weights, which are rounded where they are used. bfloat16 has float32's range, so nothing is scaled.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .errors import UserError
from .stages import Networks


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype a name stands for on a device: auto is bfloat16 on GPUs that have it, float32 elsewhere.

    Args:
        name: auto, float32 or bfloat16.
        device: where the networks run.

    Raises:
        UserError: bfloat16 was asked for on a GPU without it.
    """
    able = device.type == "cpu" or torch.cuda.get_device_capability(device) >= (8, 0)
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and able else torch.float32
    if name == "bfloat16" and not able:
        raise UserError(f"precision bfloat16: {torch.cuda.get_device_name(device)} has none; use float32")
    return getattr(torch, name)


def lowered(nets: Networks, precision: torch.dtype) -> Networks:
    """The same networks, computing in `precision` and returning float32; the weights are shared.

    Args:
        nets: the networks, their weights in float32.
        precision: torch.float32 (they are returned as they are) or torch.bfloat16.
    """
    return nets if precision == torch.float32 else Networks(*(_Lowered(net, precision) for net in nets))


class _Lowered(nn.Module):
    def __init__(self, network: nn.Module, precision: torch.dtype) -> None:
        super().__init__()
        self.network, self.precision = network, precision

    def forward(self, *images: Tensor) -> Tensor:
        with torch.autocast(images[0].device.type, self.precision):
            return self.network(*images).float()
