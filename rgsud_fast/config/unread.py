"""Fields that the chosen method does not read: one that somebody gave changes nothing, so the run ends and says so."""

from __future__ import annotations

from collections.abc import Collection
from typing import get_args

from ..errors import UserError
from .config import Config
from .load import flatten_fields
from .parts import MethodName

_REWARD_LOSS = ("loss.reward", "loss.reward_form", "loss.reward_gradient")  # of every method
_DERAINERS = (
    *("network.derainer", "network.restormer", "network.drsformer", "network.nerd_rain", "network.moe"),
    *("network.last_gain", "network.checkpoint"),
)
_TRANSLATORS = ("network.initialization", *_REWARD_LOSS)
# Of `network` and `loss`, which are RGSUD's, what other methods read, by the beginnings of names; a method that is not
# here reads all. Each reads the section of its own name and none of another's.
_READ: dict[str, tuple[str, ...]] = {
    "cyclegan": _TRANSLATORS,
    "cut": _TRANSLATORS,
    "dcdgan": _TRANSLATORS,
    "nlcl": _TRANSLATORS,
    "deraincyclegan": _TRANSLATORS,
    "unirain": (*_DERAINERS, "loss.labelled", "loss.labelled_form", "loss.pasted_floor", *_REWARD_LOSS),
    "csud": (*_DERAINERS, *_TRANSLATORS),
}
_NO_SWITCH = ("cut", "unirain")  # a reward is a target there and nothing else
_LABELLED = ("rgsud", "unirain")  # learn from labelled pairs, which `reweight` weighs
MOST_NAMED = 5  # fields in a message


def reads(method: str, field: str) -> bool:
    """Whether a method reads a field, by its name such as `loss.pair`."""
    section, _, _ = field.partition(".")
    if section in get_args(MethodName):
        return section == method
    if field == "reward.switch":
        return method not in _NO_SWITCH
    if field == "loss.labelled_form":
        return method == "unirain"
    if section == "reweight":
        return method in _LABELLED
    if section in ("network", "loss") and method in _READ:
        return any(field == name or (name.startswith("network") and field.startswith(name)) for name in _READ[method])
    return True


def refuse_unread(config: Config, asked: Collection[str] = ()) -> None:
    """Refuse a configuration in which a field that its method does not read is not the preset's.

    Args:
        config: the run.
        asked: fields that the user names, as on a command line; of these also the preset's value is refused.

    Raises:
        UserError: it names these fields.
    """
    base = Config(preset=config.preset, method=config.method)
    was, now = (flatten_fields(one.model_dump(mode="json")) for one in (base, config))
    named = {".".join(name.split(".")[:2]) for name in asked}  # a section within a section is one field
    given = [name for name, value in now.items() if value != was[name] or name in named]
    given = [name for name in given if not reads(config.method, name)]
    if given:
        more = f" and {len(given) - MOST_NAMED} more" if len(given) > MOST_NAMED else ""
        names = ", ".join(given[:MOST_NAMED]) + more
        raise UserError(f"{names}: method {config.method} does not read what was given there; leave it out")
