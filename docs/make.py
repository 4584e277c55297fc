"""The page of every field, configuration.md, made from the schema of the configuration: `python docs/make.py`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rgsud_fast.config import Config, load_config
from rgsud_fast.config.presets import PRESETS
from rgsud_fast.config.schema import json_schema

PAGE = Path(__file__).resolve().parent / "configuration.md"

HEAD = """<!-- Written by `python docs/make.py` from the files of rgsud_fast/config/: change those instead. -->

# Every field of the configuration

A field is given on the command line (`--optim.ema-decay 0.999`; a switch as `--cuda-graph` or `--no-cuda-graph`), in a
YAML file (`--config FILE`; sections are nested) or in Python (a dict of the same shape, or `rgsud_fast.Config`). The
command line wins over the file, and the file over the preset. An unknown field or a value outside its range ends the
run before it starts, with one line that names it. The run folder's `config.yaml` holds every field as it was used.

```yaml
# yaml-language-server: $schema=rgsud.schema.json
preset: small
data: {rainy: photos/rain, clean: photos/dry}
optim:
  ema_decay: 0.999
```

The first line is for editors: `rgsud-fast schema > rgsud.schema.json` beside the file lets them complete and check it.

A column of a preset is empty where the preset takes the value of `paper`. Columns are those of `rgsud`, and `unirain`'s
of its own; another method has its own values, which `rgsud-fast train --method METHOD --preset PRESET --help` shows.
"""


def page() -> str:
    """The whole page."""
    schema = json_schema()
    configs = {preset: load_config({"preset": preset}).model_dump(mode="json") for preset in PRESETS}
    own = {name: field for name, field in schema["properties"].items() if not _model(field)}
    parts = [HEAD, _section("", Config.__doc__ or "", own, configs)]
    parts += _sections("", schema["properties"], schema["$defs"], configs)
    return "\n".join(parts)


def _sections(
    prefix: str, fields: dict[str, Any], models: dict[str, Any], values: dict[str, dict[str, Any]]
) -> Iterator[str]:
    """The sections among fields, each with those inside it."""
    for name, field in fields.items():
        if model := _model(field):
            section = models[model]
            inside = {preset: value[name] for preset, value in values.items()}
            plain = {key: value for key, value in section["properties"].items() if not _model(value)}
            yield _section(prefix + name, section["description"], plain, inside)
            yield from _sections(f"{prefix}{name}.", section["properties"], models, inside)


def _model(field: dict[str, Any]) -> str:
    """The name of the section that a field is; "" of a plain one. Older pydantics wrap the reference."""
    (first, *_) = field.get("allOf", [field])
    return str(first.get("$ref", "")).rpartition("/")[2]


def _section(name: str, about: str, fields: dict[str, Any], values: dict[str, dict[str, Any]]) -> str:
    """A heading, what the section is about, and a row for each field."""
    head = "| field | type and range | " + " | ".join(f"`{preset}`" for preset in PRESETS) + " | meaning |"
    lines = [f"## `{name}`" if name else "## The run", "", about, "", head, "|---" * (len(PRESETS) + 3) + "|"]
    for field, schema in fields.items():
        first, *rest = (values[preset][field] for preset in PRESETS)
        shown = [_value(first), *("" if value == first else _value(value) for value in rest)]
        path = f"{name}.{field}" if name else field
        lines.append(f"| `{path}` | {_type(schema)} | {' | '.join(shown)} | {_cell(schema['description'])} |")
    return "\n".join(lines) + "\n"


def _type(schema: dict[str, Any]) -> str:
    """A field's type and range in words."""
    if "anyOf" in schema:
        return " or ".join(_type(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "pattern" in schema:
        return f"text, `{_cell(schema['pattern'].strip('^$'))}`"
    if schema["type"] == "array":
        if "prefixItems" in schema:
            return f"{len(schema['prefixItems'])} {_type(schema['prefixItems'][0])}s"
        return f"list of {_type(schema['items'])}s"
    words = {"integer": "integer", "number": "number", "boolean": "true or false", "null": "null"}
    word = words.get(schema["type"]) or ("path" if schema.get("format") == "path" else "text")
    return ", ".join([word, *_bounds(schema)])


def _bounds(schema: dict[str, Any]) -> Iterator[str]:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    for key, sign in signs.items():
        if key in schema:
            yield f"{sign} {schema[key]}"


def _value(value: Any) -> str:
    """A value as YAML writes it."""
    if isinstance(value, str):
        return f"`{value}`"
    if isinstance(value, float):
        return ".inf" if math.isinf(value) else f"{value:g}".replace("e-0", "e-")
    return json.dumps(value)


def _cell(text: str) -> str:
    """Text that a table's cell can hold."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
