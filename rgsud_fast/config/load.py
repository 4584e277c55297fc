"""Configurations read from whatever a user has: safe YAML of bounded size, faults told in one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ..errors import UserError, reason
from ..system.device_names import ALLOWED, PATTERN
from ..system.files import read_small, write_text
from ..system.names import takes_home
from .config import Config
from .presets import default_preset
from .reward_section import RewardConfig
from .sections import LossConfig, OptimConfig

MOST_BYTES = 2**20  # of a configuration file; one that names every field has 5 thousand
MOST_SHOWN = 80  # characters of a wrong name or value that a message repeats
_KINDS = {  # of values, by what pydantic calls them
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "tuple": "a list",
    "model": "a section of fields",
}


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases: a few lines of them can stand for more than any memory holds."""

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias (*) is not read; write the value out")
        return super().compose_node(parent, index)


# Fields that files of before had not: a run folder of then, which names every other field, had their defaults.
_LATER = {
    "loss": (
        "pasted",
        "pasted_gain",
        "pasted_share",
        "pasted_on_rewards",
        "pasted_floor",
        "labelled",
        "deep",
        "labelled_form",
        "labelled_floor",
    ),
    "optim": ("warmup", "betas", "weight_decay", "halve_every", "fake_buffer", "algorithm"),
    "reward": ("first", "newest", "toolbox", "local_statistics"),
}


@takes_home
def load_config(source: Config | dict[str, Any] | str | Path | None = None) -> Config:
    """Read a configuration from whatever a user has.

    Args:
        source: a Config, a dict of its fields, the path of a YAML file, or None for the demo.

    Returns:
        The validated configuration.

    Raises:
        UserError: unknown or ill-typed field, or a file that cannot be read; the message names it.
    """
    if isinstance(source, Config):
        return source.model_copy(deep=True)
    if source is None:
        source = {"preset": "demo"}
    if isinstance(source, (str, Path)):
        source = read_yaml(Path(source))
    for name in source if isinstance(source, dict) else ():
        if not isinstance(name, str):
            raise UserError(f"config: {name!r:.{MOST_SHOWN}}: no such field (rgsud-fast train --help lists them)")
    try:
        return Config.model_validate(source)
    except ValidationError as error:
        raise UserError(explain(error)) from None


def save_config(config: Config, path: Path) -> None:
    """Write every field to a YAML file that `load_config` reads back."""
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


@takes_home
def with_preset(source: Config | dict[str, Any] | str | Path | None) -> tuple[Config | dict[str, Any], str]:
    """A configuration as a user gives it, with a preset chosen where it names none; and a line that says so, or ""."""
    if isinstance(source, Config):
        return source, ""
    given = read_yaml(Path(source)) if isinstance(source, (str, Path)) else {} if source is None else source
    if not isinstance(given, dict) or "preset" in given:
        return given, ""
    data = given.get("data")
    folders = isinstance(data, dict) and any(data.get(field) for field in ("rainy", "clean"))
    pairs = isinstance(data, dict) and bool(data.get("pairs"))
    preset, line = default_preset(folders, str(given.get("device", "auto")), pairs, str(given.get("method", "")))
    return {**given, "preset": preset}, line


def explain(error: ValidationError) -> str:
    """One line that names every field at fault and what is wrong with it."""
    lines: dict[str, str] = {}  # by field: of what may be of two kinds the first is told
    for fault in error.errors():
        extra = fault["type"] == "extra_forbidden"
        parts = [str(part) for part in fault["loc"] if extra or not _is_kind(str(part))]
        name = ".".join(parts)[:MOST_SHOWN]
        if extra:
            told = f"{name}: no such field (rgsud-fast train --help lists them)"
        elif fault["type"] == "value_error":  # of a validator here, between two fields
            told = f"{name + ': ' if name else ''}{fault['ctx']['error']}"
        else:
            told = f"{name}: {_demand(fault)}, got {repr(fault['input'])[:MOST_SHOWN]}"
        lines.setdefault(name, told)
    return "config: " + " ".join("; ".join(lines.values()).split())


def _is_kind(part: str) -> bool:
    """Whether pydantic has put a kind into a field's name, of those that its value may be of."""
    return part == "str" or "[" in part


def _demand(fault: Mapping[str, Any]) -> str:
    """What a field's value must be, in words: no pattern, no class."""
    kind, _, what = fault["type"].partition("_")
    if fault["type"] == "string_pattern_mismatch" and fault["ctx"]["pattern"] == PATTERN:
        return f"must be {ALLOWED}"
    if fault["type"] == "literal_error":
        return f"must be {fault['ctx']['expected'].replace(chr(39), '')}"
    if kind in _KINDS and what in ("type", "parsing", "from_float"):
        return f"must be {_KINDS[kind]}"
    return str(fault["msg"]).replace("Input should be", "must be")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the fields of a YAML file; an empty file holds none.

    Raises:
        UserError: the file cannot be read, is not YAML, or holds something else.
    """
    try:
        loaded = yaml.load(read_small(path, MOST_BYTES).decode(), _Loader)
    except OSError as error:
        raise UserError(f"config {path}: {error.strerror}; give the path of a YAML file") from None
    except Exception as error:  # a tag such as !!timestamp makes its constructor raise nearly anything
        raise UserError(f"config {path} is not valid YAML: {reason(error, 200)}") from None
    if not isinstance(loaded, (dict, NoneType)):
        raise UserError(f"config {path} must hold 'field: value' lines, got a {type(loaded).__name__}")
    return _with_later_defaults(loaded or {})


def _with_later_defaults(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of an older run's whole configuration as they were meant: no preset fills in what came later."""
    sections: dict[str, type[BaseModel]] = {"loss": LossConfig, "optim": OptimConfig, "reward": RewardConfig}
    filled = dict(fields)
    for name, model in sections.items():
        given = fields.get(name)
        if not isinstance(given, dict) or set(model.model_fields) - set(_LATER[name]) - set(given):
            return fields
        later = {field: model.model_fields[field].default for field in _LATER[name] if field not in given}
        filled[name] = given | later
    return filled


def flatten_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a configuration, sections within, as one dict by names such as `data.rainy`."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        flat |= {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
    return flat
