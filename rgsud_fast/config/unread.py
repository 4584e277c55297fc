"""Fields that the method or the derainer does not read: one that somebody gave changes nothing, so the run says so."""

from __future__ import annotations

from collections.abc import Collection
from typing import get_args

from ..errors import UserError
from .config import Config
from .derainers import DerainerName
from .load import flatten_fields
from .parts import LABELLED, MethodName

_REWARD_LOSS = ("loss.reward", "loss.reward_form", "loss.reward_gradient")  # of every method
_DERAINERS = (
    *("network.derainer", "network.restormer", "network.drsformer", "network.nerd_rain", "network.moe"),
    *("network.last_gain", "network.checkpoint"),
)
_PAIR_TERMS = ("loss.labelled", "loss.labelled_form", "loss.labelled_floor", "loss.pasted_floor")
_OF_PAIRS = ("data.pairs_type", "data.pairs_index", "data.balance", "data.held_out")
_NEED_PAIRS = (*_OF_PAIRS, "loss.labelled", "reweight.")  # beginnings of what is read where there are labelled pairs
_TRANSLATORS = ("network.initialization", *_REWARD_LOSS)
# Of `network` and `loss`, which are RGSUD's, what other methods read, by the beginnings of names; a method that is not
# here reads all. Each reads the section of its own name and none of another's.
_READ: dict[str, tuple[str, ...]] = {
    "cyclegan": _TRANSLATORS,
    "cut": _TRANSLATORS,
    "dcdgan": _TRANSLATORS,
    "nlcl": _TRANSLATORS,
    "deraincyclegan": _TRANSLATORS,
    "unirain": (*_DERAINERS, *_PAIR_TERMS, *_REWARD_LOSS),
    "csud": (*_DERAINERS, *_TRANSLATORS),
}
_NO_SWITCH = ("cut", "unirain")  # a reward is a target there and nothing else
# Sizes of NAFNet, which other derainers do not have; `network.derainer_start` is for all.
_BLOCKS = ("network.derainer_width", "network.derainer_encoder", "network.derainer_middle", "network.derainer_decoder")
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
    if section == "reweight" or field in _OF_PAIRS:
        return method in LABELLED
    if section in ("network", "loss") and method in _READ:
        return any(field == name or (name.startswith("network") and field.startswith(name)) for name in _READ[method])
    return True


def derainer_reads(derainer: str, field: str) -> bool:
    """Whether the network of that name is built by a field, such as `network.moe`; yes of fields of anything else."""
    if field in _BLOCKS:
        return derainer in ("nafnet", "moe")
    section, _, name = field.partition(".")
    return section != "network" or name not in get_args(DerainerName) or name == derainer


def refuse_unread(config: Config, asked: Collection[str] = ()) -> None:
    """Refuse a configuration in which a field that its method or its derainer does not read is not the preset's.

    Args:
        config: the run.
        asked: fields that the user names, as on a command line; of these also the preset's value is refused, and
            NAFNet's sizes for a derainer that is none, which a file may hold for another day.

    Raises:
        UserError: it names these fields.
    """
    base = Config(preset=config.preset, method=config.method)
    was, now = (flatten_fields(one.model_dump(mode="json")) for one in (base, config))
    named = {".".join(name.split(".")[:2]) for name in asked}  # a section within a section is one field
    given = [name for name, value in now.items() if value != was[name] or name in named]
    if unread := [name for name in given if not reads(config.method, name)]:
        raise UserError(f"{_listed(unread)}: method {config.method} does not read what was given there; leave it out")
    if config.method == "unirain" and config.loss.labelled_form == "l1" and "loss.labelled_floor" in given:
        raise UserError("loss.labelled_floor: loss.labelled_form l1 has no floor; give psnr, or leave it out")
    without = config.method != "unirain" and not config.data.pairs  # that one asks for pairs anyway
    if without and (unread := [name for name in given if name.startswith(_NEED_PAIRS)]):
        raise UserError(f"{_listed(unread)}: only labelled pairs need it; give --data.pairs DIR, or leave it out")
    derainer = config.network.derainer
    given = [name for name in given if name in named or name not in _BLOCKS]
    if unread := [name for name in given if not derainer_reads(derainer, name)]:
        others = [name.removeprefix("network.") for name in unread if name not in _BLOCKS] or ["nafnet"]
        raise UserError(
            f"{_listed(unread)}: derainer {derainer} does not read what was given there; leave it out, or give "
            f"network.derainer {others[0]}"
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
