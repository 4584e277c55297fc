"""The classes of networks by name, as files and the configuration know them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from ..config import NetworkConfig
from ..errors import UserError
from . import Discriminator, NAFNet, RainGenerator, UNet
from .derainers.drsformer import DRSformer
from .derainers.moe import MoENet
from .derainers.nerd_rain import NeRDRain
from .derainers.restormer import Restormer
from .derainers.transformer import pad_by_reflection
from .masked_translators import MaskedDerainer, MaskedTranslator
from .multi_scale import MultiScaleDiscriminator
from .projector import Projector
from .separators import Separator
from .transfer import Transfer
from .translators import Translator

DERAINERS: dict[str, type[nn.Module]] = {  # as the configuration calls them
    "nafnet": NAFNet,
    "restormer": Restormer,
    "drsformer": DRSformer,
    "nerd_rain": NeRDRain,
    "moe": MoENet,
}
KINDS: dict[str, type[nn.Module]] = {
    "derainer": NAFNet,
    "unet": UNet,
    "generator": RainGenerator,
    "discriminator": Discriminator,
    "painter": Translator,
    "transfer": Transfer,
    "projector": Projector,
    "painter_projector": Projector,
    "clean_judge": Discriminator,
    "rainy_judge": Discriminator,
    "rain_separator": Separator,
    "background_projector": Projector,
    "rain_projector": Projector,
}
OTHERS: dict[str, tuple[type[nn.Module], ...]] = {  # what a kind may be beside its class of KINDS
    "derainer": (*DERAINERS.values(), Translator, MaskedDerainer, Separator),
    "painter": (MaskedTranslator,),
    "clean_judge": (MultiScaleDiscriminator,),
    "rainy_judge": (MultiScaleDiscriminator,),
}


def configured_derainer(config: NetworkConfig) -> nn.Module:
    """The configured derainer; it pads as one that has started from a file does where a run once began so."""
    derainer: Any = DERAINERS[config.derainer](**config.derainer_sizes)
    if config.derainer not in ("nafnet", "moe"):  # which begin at the photograph
        derainer.last.weight.data.mul_(config.last_gain)
    if config.derainer_start is not None:
        pad_by_reflection(derainer)
    return cast(nn.Module, derainer)


def classes_of(kind: str) -> dict[str, type[nn.Module]]:
    """The classes that a network of a kind may be of, by name; a file that names none of them holds the first."""
    classes = (KINDS[kind], *OTHERS.get(kind, ()))
    return {network.__name__: network for network in classes}


def parts_of(nets: Mapping[str, nn.Module]) -> dict[str, dict[str, Any]]:
    """What networks of a run are built by, by name; `NetworkConfig.built` tells of DERAINERS, nobody of a user's."""
    found = {name: net for name, net in nets.items() if name in KINDS and type(net) in classes_of(name).values()}
    return {name: cast(Any, net).sizes for name, net in found.items() if type(net) not in DERAINERS.values()}


def check_parts(nets: Mapping[str, nn.Module], saved: Mapping[str, Any]) -> None:
    """Refuse networks that are built otherwise than saved ones, whose tensors may have the same shapes.

    Raises:
        UserError: so they are. What an older checkpoint does not tell is not compared.
    """
    for name, now in parts_of(nets).items():
        if saved.get(name, now) != now:
            raise UserError(f"{name} is built by {now}, and by {saved[name]} in the checkpoint; start a new run for it")
