"""NAFNet weights of a run or as others publish them: read as a derainer's start, and written for NAFNet's own code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from ...errors import UserError
from ..weights import load_network
from .layouts import LAYERS, PARTS, rename
from .nafnet import NAFNet

if TYPE_CHECKING:
    from ...config import NetworkConfig


def to_nafnet(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a `NAFNet` under NAFNet's names."""
    parts, layers = ({ours: theirs for theirs, ours in names.items()} for names in (PARTS, LAYERS))
    return {rename(name, parts, layers): tensor for name, tensor in tensors.items()}


def read_derainer(path: str | Path) -> NAFNet:
    """Build the derainer that a file holds, with the sizes found in it; ready to be trained.

    Args:
        path: what `load_network` takes: a run folder, a .safetensors file or a .pth, under our names or NAFNet's.

    Raises:
        UserError: missing or damaged file, one that holds more than tensors, or no NAFNet; the message names the file.
    """
    derainer = load_network(path, "derainer")
    if not isinstance(derainer, NAFNet):
        raise UserError(f"{path} holds no NAFNet: give a derainer.safetensors, or a NAFNet in BasicSR's layout")
    return derainer.train().requires_grad_(True)


def read_start(config: NetworkConfig, own: nn.Module | None = None) -> NAFNet:
    """The derainer that training starts from, `config.derainer_start`.

    Args:
        config: names the file, and sizes that must be those of the file.
        own: a derainer of the user's own, for which no file can be read.

    Raises:
        UserError: the file cannot be used, or its sizes are not the configured ones; the message says what to set.
    """
    path = cast(Path, config.derainer_start)  # the caller has looked
    if own is not None:
        raise UserError(f"network.derainer_start {path} is for NAFNet: load the weights of your own derainer yourself")
    derainer = read_derainer(path)
    configured = {name: getattr(config, f"derainer_{name}") for name in derainer.sizes}
    if derainer.sizes != {name: list(size) if isinstance(size, tuple) else size for name, size in configured.items()}:
        flags = (f"--network.derainer-{name} {_words(size)}" for name, size in derainer.sizes.items())
        raise UserError(f"{path} holds a derainer of other sizes than configured: set {' '.join(flags)}")
    return derainer


def _words(size: int | list[int]) -> str:
    return " ".join(map(str, size)) if isinstance(size, list) else str(size)
