"""The networks of a run, from its configuration."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ..config import Config, NetworkConfig
from ..errors import UserError
from ..networks import Discriminator, NAFNet, RainGenerator, UNet, checkpoint_blocks, evaluating, init_fan_in
from ..networks.derainers.transformer import pad_by_reflection
from ..networks.weights import DERAINERS
from ..system.device import memory_layout
from .rgsud import Networks


def build_networks(config: Config, device: torch.device, derainer: nn.Module | None = None) -> Networks:
    """Make the four networks, on the device and laid out for it; the same initial weights for the same seed.

    Args:
        config: names sizes, initialisation and seed.
        device: where they will train.
        derainer: a network of the user's own, [N, 3, H, W] -> the same, in place of the configured one.

    Raises:
        UserError: that network is none, has nothing to train, or changes the shape.
    """
    sizes = config.network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        nets = Networks(
            _derainer(sizes) if derainer is None else derainer,
            UNet(sizes.unet_width, sizes.unet_levels),
            RainGenerator(sizes.generator_width, sizes.generator_blocks),
            Discriminator(sizes.discriminator_width),
        )
        if sizes.initialization == "fan_in":
            for net in nets[1:]:
                init_fan_in(net)
            cast(RainGenerator, nets.generator).start_grey()
    if derainer is not None:
        _check_derainer(derainer, config.crop)
    if config.val_local_statistics and not isinstance(nets.derainer, NAFNet):
        other = type(nets.derainer).__name__
        raise UserError(f"val_local_statistics is known of NAFNet alone; leave it off with {other}")
    checkpoint_blocks(nets.derainer, sizes.checkpoint == "block")
    layout: Any = {"device": device, "memory_format": memory_layout(device)}  # torch's stubs know one or the other
    return Networks(*(net.to(**layout).train() for net in nets))


def _derainer(config: NetworkConfig) -> nn.Module:
    """The configured derainer; it pads as one that has started from a file does where a run once began so."""
    derainer: Any = DERAINERS[config.derainer](**config.derainer_sizes)
    if config.derainer != "nafnet":
        derainer.last.weight.data.mul_(config.last_gain)
    if config.derainer_start is not None:
        pad_by_reflection(derainer)
    return cast(nn.Module, derainer)


def _check_derainer(derainer: nn.Module, side: int) -> None:
    """Refuse a network of the user's own that cannot be trained as a derainer, before anything else fails on it."""
    if not isinstance(derainer, nn.Module):
        what = f"the class {derainer.__name__}" if isinstance(derainer, type) else type(derainer).__name__
        raise UserError(f"derainer must be a torch.nn.Module, an object of such a class; got {what}")
    parameters = [parameter for parameter in derainer.parameters() if parameter.requires_grad]
    if not parameters:
        raise UserError(f"derainer {type(derainer).__name__} has no parameters to train")
    with evaluating(derainer):
        got = derainer(torch.zeros(1, 3, side, side, device=parameters[0].device))
    if not isinstance(got, Tensor) or list(got.shape) != [1, 3, side, side]:
        made = list(got.shape) if isinstance(got, Tensor) else type(got).__name__
        raise UserError(f"derainer must keep the shape of its input: it made {made} of {[1, 3, side, side]}")
