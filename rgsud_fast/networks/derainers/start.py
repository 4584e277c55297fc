"""Weights that training starts from: of a run or as others publish them, for a derainer of the configured sizes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from ...errors import UserError
from ..known import DERAINERS
from ..weights import load_network
from .moe import MoENet
from .nafnet import NAFNet
from .transformer import pad_by_reflection

if TYPE_CHECKING:
    from ...config import NetworkConfig


def read_derainer(path: str | Path) -> nn.Module:
    """Build the derainer that a file holds, with the sizes found in it; ready to be trained.

    Args:
        path: what `load_network` takes: a run folder, a .safetensors file or a .pth, under our names or its authors'.

    Raises:
        UserError: missing or damaged file, one that holds more than tensors, or no derainer; the message names the
            file.
    """
    return load_network(path, "derainer").train().requires_grad_(True)


def read_start(config: NetworkConfig, own: nn.Module | None = None) -> nn.Module:
    """The derainer that training starts from, `config.derainer_start`.

    Args:
        config: names the file, and a derainer and sizes that must be those of the file; moe starts from a NAFNet's too.
        own: a derainer of the user's own, for which no file can be read.

    Raises:
        UserError: the file cannot be used, or holds another derainer than configured; the message says what to set.
    """
    path = cast(Path, config.derainer_start)  # the caller has looked
    if own is not None:
        raise UserError(
            f"network.derainer_start {path} is for {' or '.join(DERAINERS)}: load the weights of your own derainer "
            "yourself"
        )
    derainer = cast(Any, read_derainer(path))
    if config.derainer == "moe" and type(derainer) is NAFNet:
        return MoENet(**config.derainer_sizes).start_from(derainer)
    found = next(name for name, network in DERAINERS.items() if type(derainer) is network)
    sizes = {name: size for name, size in derainer.sizes.items() if name != "reflect"}
    if found != config.derainer:
        raise UserError(
            f"{path} holds a {type(derainer).__name__}, and network.derainer is {config.derainer}: set "
            f"--network.derainer {found} {_flags(found, sizes)}"
        )
    if sizes != config.derainer_sizes:
        raise UserError(f"{path} holds a derainer of other sizes than configured: set {_flags(found, sizes)}")
    pad_by_reflection(derainer)
    return cast(nn.Module, derainer)


def _flags(derainer: str, sizes: dict[str, Any]) -> str:
    section = "derainer-" if derainer in ("nafnet", "moe") else f"{derainer.replace('_', '-')}."
    flags = {name: f"--network.{section}{name.replace('_', '-')}" for name in sizes}
    if derainer == "moe":
        sizes = dict(sizes)
        for side in ("encoder", "decoder"):
            sizes[f"hard_{side}"] = "hard" if sizes[f"hard_{side}"] else "soft"
            flags[f"hard_{side}"] = f"--network.moe.{side}"
        flags |= {name: f"--network.moe.{name}" for name in ("experts", "active", "noise")}
    return " ".join(_flag(flags[name], size) for name, size in sizes.items())


def _flag(flag: str, size: Any) -> str:
    if isinstance(size, bool):
        return flag if size else ".no-".join(flag.rsplit(".", 1))
    return f"{flag} {' '.join(map(str, size)) if isinstance(size, list) else size}"
