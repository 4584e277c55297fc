"""The methods by name, and the networks of a run, from its configuration."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ..config import Config
from ..errors import UserError
from ..networks import checkpoint_blocks, evaluating, has_windows
from ..system.device import memory_layout
from . import csud, cut, cyclegan, dcdgan, deraincyclegan, nlcl, rgsud, unirain
from .method import NEEDED, Method

METHODS: dict[str, Method] = {
    "rgsud": rgsud,
    "cyclegan": cyclegan,
    "cut": cut,
    "csud": csud,
    "dcdgan": dcdgan,
    "nlcl": nlcl,
    "deraincyclegan": deraincyclegan,
    "unirain": unirain,
}


def find_method(config: Config, own: Any = None) -> Method:
    """The method that a configuration names, or one of the user's own, a module or object with what `Method` names.

    Raises:
        UserError: something is missing there; the message names it.
    """
    if own is None:
        return METHODS[config.method]
    if lacking := [name for name in NEEDED if not hasattr(own, name)]:
        raise UserError(f"method {_name(own)} lacks {', '.join(lacking)}: see docs/add-a-method.md")
    return cast(Method, own)


def build_networks(config: Config, device: torch.device, derainer: nn.Module | None = None, method: Any = rgsud) -> Any:
    """Make the networks of a method, on the device and laid out for it; the same initial weights for the same seed.

    Args:
        config: names sizes, initialisation and seed.
        device: where they will train.
        derainer: a network of the user's own, [N, 3, H, W] -> the same, in place of the method's.
        method: whose networks.

    Returns:
        The networks by name, a NamedTuple, of which one is the `derainer`.

    Raises:
        UserError: the derainer is none, has nothing to train, or changes the shape; or the method takes none.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        nets = method.build(config, derainer)
    fields = getattr(nets, "_fields", ())
    wanted = {"derainer", *method.TOGETHER, *method.JUDGES}
    if not wanted <= set(fields):
        raise UserError(f"method {_name(method)}: build() must return a NamedTuple with {', '.join(sorted(wanted))}")
    if derainer is not None:
        _check_derainer(derainer, config.crop)
    asked = {"val_": config.val_local_statistics, "reward.": config.reward.local_statistics}
    if any(asked.values()) and not has_windows(nets.derainer):
        names = ", ".join(f"{name}local_statistics" for name, on in asked.items() if on)
        raise UserError(f"{names}: none are known of {type(nets.derainer).__name__}; leave it off")
    checkpoint_blocks(nets.derainer, config.network.checkpoint == "block")
    layout: Any = {"device": device, "memory_format": memory_layout(device)}  # torch's stubs know one or the other
    return type(nets)(*(net.to(**layout).train() for net in nets))


def _name(method: Any) -> str:
    return str(getattr(method, "NAME", getattr(method, "__name__", type(method).__name__)))


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
