"""Configuration files of anybody: safe YAML of bounded size, and what is wrong with their fields in one line."""

from __future__ import annotations

from pathlib import Path
from types import NoneType
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import UserError
from ..system.files import read_small

MOST_BYTES = 2**20  # of a configuration file; one that names every field has 5 thousand
MOST_SHOWN = 80  # characters of a wrong name or value that a message repeats


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases: a few lines of them can stand for more than any memory holds."""

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias (*) is not read; write the value out")
        return super().compose_node(parent, index)


def explain(error: ValidationError) -> str:
    """One line that names every field at fault and what is wrong with it."""
    lines = []
    for fault in error.errors():
        name = ".".join(str(part) for part in fault["loc"])[:MOST_SHOWN]
        if fault["type"] == "extra_forbidden":
            lines.append(f"{name}: no such field (rgsud-fast train --help lists them)")
        elif fault["type"] == "value_error":  # of a validator here, between two fields
            lines.append(f"{name + ': ' if name else ''}{fault['ctx']['error']}")
        else:
            lines.append(f"{name}: {fault['msg']}, got {repr(fault['input'])[:MOST_SHOWN]}")
    return "config: " + " ".join("; ".join(lines).split())


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
        raise UserError(f"config {path} is not valid YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(loaded, (dict, NoneType)):
        raise UserError(f"config {path} must hold 'field: value' lines, got a {type(loaded).__name__}")
    return loaded or {}


def dotted(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a configuration, sections within, as one dict by names such as `data.rainy`."""
    flat = {}
    for name, value in fields.items():
        flat |= {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
    return flat
