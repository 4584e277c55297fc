"""Derainers under the names and in the files in which people publish them, found by names and shapes alone."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...errors import UserError, reason
from ...system.names import utf8_name
from ...system.torch_files import load_tensors
from .drsformer import DRSformer
from .moe import MoENet
from .nafnet import NAFNet
from .nerd_rain import NeRDRain, fold_inr, unfold_inr
from .restormer import Restormer
from .sizes import drsformer_sizes, moe_sizes, nafnet_sizes, nerd_rain_sizes, restormer_sizes
from .transformer import pad_by_reflection

Tensors: TypeAlias = dict[str, Tensor]

PARTS = {"intro": "first", "encoders": "encoder", "middle_blks": "middle", "decoders": "decoder", "ending": "last"}
LAYERS = {  # of NAFNet's authors
    "conv1": "expand1",
    "conv2": "depthwise",
    "sca.1": "attention",
    "conv3": "project1",
    "conv4": "expand2",
    "conv5": "project2",
}
_CLEARVIEW = {  # of dronefreak/clearview, whose parts are called as NAFNet's own
    "conv1": "expand1",
    "dwconv": "depthwise",
    "sca.conv": "attention",
    "conv2": "project1",
    "conv3": "expand2",
    "conv4": "project2",
}
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")  # what PyTorch puts into names
_FIRST = (  # every prefix stands before one of these
    *("intro.weight", "first.weight"),
    *("patch_embed.proj.weight", "patch_embed_small.proj.weight"),
)
_TORCH = (".pth", ".pt", ".ckpt", ".bin", ".th", ".tar")


def rename(name: str, parts: Mapping[str, str], layers: Mapping[str, str]) -> str:
    """A tensor's name in another layout."""
    part, _, rest = name.partition(".")
    for old, new in layers.items():
        rest = rest.replace(f"{old}.", f"{new}.")
    return f"{parts.get(part, part)}.{rest}"


def is_torch_file(path: Path) -> bool:
    """Whether a file is torch.save's, by its content or, where that says nothing, by its name."""
    return path.suffix.lower() in _TORCH or zipfile.is_zipfile(path)


def read_published(path: Path) -> nn.Module:
    """Build the derainer that a file holds, with the sizes found in it.

    Args:
        path: a .safetensors, or a file of torch.save with the tensors at its top or one level down, under any name;
            of several networks a moving average (a holder or a prefix with `ema` in it) comes first.

    Raises:
        UserError: missing or damaged file, one that holds more than tensors, or no known derainer; the message names
            the file.
    """
    loaded = _load(path)
    found = next((group for group in _groups(loaded) if layout_of(group)), None)
    if found is None:
        names = sorted((layout.network.__name__ for layout in LAYOUTS), key="NAFNet".__ne__)
        raise UserError(
            f"{path} holds no {' or '.join(names)}: give a run's derainer.safetensors, or such a network in its "
            "authors' layout; others run where rgsud_fast.derain is given the network itself"
        )
    derainer = build_derainer(path, found)
    pad_by_reflection(derainer)
    return derainer


def build_derainer(path: Path, tensors: Tensors) -> nn.Module:
    """The derainer of tensors under our names or its authors'; `path` is named in errors.

    Raises:
        UserError: they do not fit each other.
    """
    layout = layout_of(tensors)
    if layout is None:
        raise UserError(f"{path} holds no derainer that is known")
    try:
        tensors = layout.to_ours({name: _own(tensor) for name, tensor in tensors.items()})
        with torch.device("meta"):
            derainer = layout.network(**layout.sizes(tensors))
        derainer.load_state_dict(tensors, assign=True)
    except (RuntimeError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        name = layout.network.__name__
        raise UserError(f"{path} holds a network that is like {name} but is none: {reason(error)}") from None
    return derainer


def layout_of(tensors: Mapping[str, Any]) -> Layout | None:
    """Whose tensors these are, by names alone; None where they are of something else."""
    return next((layout for layout in LAYOUTS if layout.owns(tensors)), None)


def _load(path: Path) -> Any:
    if not is_torch_file(path):
        try:
            with utf8_name(path) as name:
                return load_file(name)
        except (SafetensorError, OSError, ValueError) as error:
            raise UserError(f"{path} is not a readable safetensors file: {error}") from None
    try:
        return load_tensors(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        mend = "; whoever trusts it saves its tensors alone" if "objects" in str(error) else ""
        raise UserError(f"{path} is no weights file that can be read: {error}{mend}") from None


def _groups(loaded: Any) -> Iterator[dict[str, Tensor]]:
    """Tensors by name, of each network that a file may hold: moving averages first, the top level before what it holds.

    A network is what stands behind one prefix, such as `module.` or `net_g.`; what stands behind none is one together.
    """
    if not isinstance(loaded, Mapping):
        return
    holders: list[tuple[str, Any]] = [("", loaded)]
    holders += [(str(name), value) for name, value in loaded.items() if isinstance(value, Mapping)]
    groups = []
    for holder, held in holders:
        tensors = {_plain(str(name)): value for name, value in held.items() if isinstance(value, Tensor)}
        prefixes = [name.removesuffix(first) for first in _FIRST for name in tensors if name.endswith(first)]
        for prefix in sorted(set(prefixes), key=lambda prefix: (not _is_average(prefix), len(prefix))):
            if prefix and not prefix.endswith("."):
                continue
            others = tuple(other for other in prefixes if other != prefix and other.startswith(prefix))
            group = {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix) and not (others and name.startswith(others))
            }
            groups.append((not _is_average(holder), not _is_average(prefix), group))
    yield from (group for *_, group in sorted(groups, key=lambda entry: entry[:2]))


def _is_average(name: str) -> bool:
    return not {"ema", "average", "averaged", "shadow"}.isdisjoint(re.split(r"[._]", name.lower()))


def _plain(name: str) -> str:
    """A name without what torch.compile and its like put into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _is_nafnet(tensors: Mapping[str, Any]) -> bool:
    first = tensors.get("intro.weight", tensors.get("first.weight"))
    return first is not None and first.ndim == 4 and any(name.endswith(".beta") for name in tensors)


def _from_nafnet(tensors: Tensors) -> Tensors:
    """The tensors of a NAFNet in any of its layouts as ours are called."""
    if "intro.weight" not in tensors:
        return tensors
    layers = _CLEARVIEW if any(".dwconv." in name for name in tensors) else LAYERS
    return {rename(name, PARTS, layers): tensor for name, tensor in tensors.items()}


def to_nafnet(tensors: Tensors) -> Tensors:
    """The tensors of a `NAFNet` under NAFNet's names."""
    parts, layers = ({ours: theirs for theirs, ours in names.items()} for names in (PARTS, LAYERS))
    return {rename(name, parts, layers): tensor for name, tensor in tensors.items()}


def _own(tensor: Tensor) -> Tensor:
    """A float32 copy, so that training writes into no file that is mapped into memory."""
    return tensor.to(torch.float32, copy=True).contiguous() if tensor.is_floating_point() else tensor


class Layout(NamedTuple):
    """How the tensors of a derainer are known, and what they are called here and by its authors."""

    network: type[nn.Module]
    holder: str  # under which its authors' files keep them
    owns: Callable[[Mapping[str, Any]], bool]
    sizes: Callable[[Tensors], dict[str, Any]]  # the keywords of the network whose tensors, as ours, these are
    to_ours: Callable[[Tensors], Tensors]
    to_theirs: Callable[[Tensors], Tensors]


def _is_nerd_rain(tensors: Mapping[str, Any]) -> bool:
    return "patch_embed_small.proj.weight" in tensors


def _is_drsformer(tensors: Mapping[str, Any]) -> bool:
    return "encoder_level1.0.attn.attn1" in tensors


def _is_restormer(tensors: Mapping[str, Any]) -> bool:
    return "encoder_level1.0.attn.temperature" in tensors


def _same(tensors: Tensors) -> Tensors:
    return tensors


def _is_moe(tensors: Mapping[str, Any]) -> bool:
    return "encoder_experts.0.bias" in tensors and "routing" in tensors


LAYOUTS = (  # whose tensors they are says the first that owns them
    Layout(MoENet, "params", _is_moe, moe_sizes, _same, _same),
    Layout(NAFNet, "params", _is_nafnet, nafnet_sizes, _from_nafnet, to_nafnet),
    Layout(NeRDRain, "state_dict", _is_nerd_rain, nerd_rain_sizes, fold_inr, unfold_inr),
    Layout(DRSformer, "params", _is_drsformer, drsformer_sizes, _same, _same),
    Layout(Restormer, "params", _is_restormer, restormer_sizes, _same, _same),
)
