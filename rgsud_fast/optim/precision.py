"""The policy of precision: networks in training in bfloat16 where that is on, all else in float32.

- Weights are float32 and rounded where a layer uses them, so that a step smaller than bfloat16 can tell is not lost.
- Inside a network the statistics of normalisations, and outside its layers the addition of its input, are float32: what
  a derainer changes of an image is small beside the image.
- What a network returns, losses, gradients and their norms, moments of Adam and the moving average are float32.
- Sweeps, validation and `derain` run the derainer in float32, and scorers in what they say themselves (daclip's
  encoder in bfloat16 on GPUs): what is measured must not depend on how training rounds.
- bfloat16 has float32's range, so no loss is scaled.

float32 is PyTorch's: there cuDNN rounds what convolutions read to TF32 unless torch.backends.cudnn.allow_tf32 is off.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import UserError


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


def in_precision(network: nn.Module, precision: torch.dtype) -> nn.Module:
    """The same network, computing in `precision` and returning float32; the weights are shared.

    Args:
        network: its weights are float32.
        precision: torch.float32 (it is returned as it is) or torch.bfloat16.
    """
    return network if precision == torch.float32 else _InPrecision(network, precision)


class _InPrecision(nn.Module):
    def __init__(self, network: nn.Module, precision: torch.dtype) -> None:
        super().__init__()
        self.network, self.precision = network, precision

    def forward(self, *given: Any) -> Any:
        """Of images, or of a list of features, which gives a list."""
        first = given[0] if isinstance(given[0], Tensor) else given[0][0]
        with torch.autocast(first.device.type, self.precision):
            made = self.network(*given)
        return made.float() if isinstance(made, Tensor) else [one.float() for one in made]

    def features(self, image: Tensor) -> list[Tensor]:
        """Of a network that has them, such as `networks.translators.Translator`."""
        with torch.autocast(image.device.type, self.precision):
            return [features.float() for features in cast(Any, self.network).features(image)]

    def mask(self, image: Tensor) -> Tensor:
        """Of a network that has one, `networks.masked_translators.MaskedDerainer`."""
        with torch.autocast(image.device.type, self.precision):
            return cast(Any, self.network).mask(image).float()
