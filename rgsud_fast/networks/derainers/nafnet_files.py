"""NAFNet weights in the layout that its authors publish (BasicSR's): read as a derainer's start, and written.

A file of theirs is a .pth with the tensors under `params` or `params_ema`, named intro, encoders.N.M.conv1, sca.1, and
so on. The layers are ours under other names.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...errors import UserError, reason
from ...system.torch_files import load_tensors
from .. import NAFNet
from ..weights import find_weights

if TYPE_CHECKING:
    from ...config import NetworkConfig

_PARTS = {"intro": "first", "encoders": "encoder", "middle_blks": "middle", "decoders": "decoder", "ending": "last"}
_LAYERS = {
    "conv1": "expand1",
    "conv2": "depthwise",
    "sca.1": "attention",
    "conv3": "project1",
    "conv4": "expand2",
    "conv5": "project2",
}
_HOLDERS = ("params_ema", "params")  # of the tensors in a .pth; the average comes first


def to_nafnet(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a `NAFNet` under NAFNet's names."""
    parts, layers = ({ours: theirs for theirs, ours in names.items()} for names in (_PARTS, _LAYERS))
    return {_rename(name, parts, layers): tensor for name, tensor in tensors.items()}


def read_derainer(path: str | Path) -> NAFNet:
    """Build the derainer that a file holds, with the sizes found in it.

    Args:
        path: a run folder, a .safetensors file or a .pth, under our names or NAFNet's.

    Raises:
        UserError: missing or damaged file, one that holds more than tensors, or no NAFNet; the message names the file.
    """
    path = find_weights(path)
    tensors = {name.removeprefix("module."): tensor for name, tensor in _tensors(path).items()}
    if "intro.weight" in tensors:
        tensors = {_rename(name, _PARTS, _LAYERS): tensor for name, tensor in tensors.items()}
    first = tensors.get("first.weight")
    if first is None or first.ndim != 4 or not any(name.endswith(".beta") for name in tensors):
        raise UserError(f"{path} holds no NAFNet: give a derainer.safetensors, or a NAFNet in BasicSR's layout")
    try:
        with torch.device("meta"):
            derainer = NAFNet(**_sizes(tensors))
        derainer.load_state_dict({name: _own(tensor) for name, tensor in tensors.items()}, assign=True)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{path} holds a network that is like NAFNet but is none: {reason(error)}") from None
    return derainer


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


def _tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors of a file, whichever of its kinds it is."""
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"{path} is not a readable safetensors file: {error}") from None
    try:
        loaded = load_tensors(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is no weights file that can be read: {error}") from None
    for holder in _HOLDERS:
        if isinstance(loaded, dict) and holder in loaded:
            loaded = loaded[holder]
    if not isinstance(loaded, dict):
        return {}
    return {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}


def _own(tensor: Tensor) -> Tensor:
    """A float32 copy, so that training writes into no file that is mapped into memory."""
    return tensor.to(torch.float32, copy=True).contiguous() if tensor.is_floating_point() else tensor


def _sizes(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The keywords of the `NAFNet` whose tensors these are: the blocks are counted by their names."""
    places = [name.split(".") for name in tensors]

    def count(*prefix: str) -> int:
        deep = len(prefix)
        return len({place[deep] for place in places if tuple(place[:deep]) == prefix and len(place) > deep})

    levels = [str(level) for level in range(count("downs"))]
    encoder, decoder = ([count(part, level) for level in levels] for part in ("encoder", "decoder"))
    return {
        "width": len(tensors["first.weight"]),
        "encoder": encoder,
        "middle": count("middle"),
        "decoder": decoder,
    }


def _rename(name: str, parts: dict[str, str], layers: dict[str, str]) -> str:
    part, _, rest = name.partition(".")
    for old, new in layers.items():
        rest = rest.replace(f"{old}.", f"{new}.")
    return f"{parts.get(part, part)}.{rest}"


def _words(size: int | list[int]) -> str:
    return " ".join(map(str, size)) if isinstance(size, list) else str(size)
