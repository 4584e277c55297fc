"""The flags of a command: of a function's parameters, or of the fields of the configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args, get_type_hints

from pydantic import BaseModel
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from ..config import Config

_OWN = (  # what `train` takes beside the fields of the configuration
    StructFieldSpec("config", cast(Any, Path | None), None, helptext="YAML file of fields, laid over the preset."),
    StructFieldSpec(
        "resume", bool, False, helptext="Continue the run in --out, or the newest under runs/, with its configuration."
    ),
)


class Flag(NamedTuple):
    """One way to write an argument that is not told by its place."""

    name: str  # such as --data.rainy
    type: Any


def models_as_dicts() -> ConstructorRegistry:
    """tyro reads the fields and `load_config` alone judges them: a mistake is told alike from YAML and from here."""
    registry = ConstructorRegistry()

    @registry.struct_rule
    def rule(info: StructTypeInfo) -> StructConstructorSpec | None:
        if not (inspect.isclass(info.type) and issubclass(info.type, BaseModel)):
            return None
        fields = [
            StructFieldSpec(name, cast(Any, field.annotation), getattr(info.default, name), helptext=field.description)
            for name, field in info.type.model_fields.items()
        ]
        own = _OWN if issubclass(info.type, Config) else ()
        return StructConstructorSpec(instantiate=dict, fields=(*fields[:1], *own, *fields[1:]))

    return registry


def flags_of(target: Callable[..., Any]) -> list[Flag]:
    """Every flag that tyro makes of a configuration or of a function, with the negations and the short names."""
    if inspect.isclass(target) and issubclass(target, BaseModel):
        own = (Flag(f"--{field.name}", field.type) for field in _OWN)
        return [*_fields(target), *own]
    hints = get_type_hints(target, include_extras=True)
    flags: list[Flag] = []
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind is not parameter.POSITIONAL_ONLY:
            kind = get_args(hints[name])[0] if _extras(hints[name]) else hints[name]
            flags += _with_negation("", name, kind)
            flags += [Flag(alias, kind) for extra in _extras(hints[name]) for alias in extra.aliases or ()]
    return flags


def places_of(target: Callable[..., Any]) -> list[str]:
    """What a function takes by its place, as the usage names it: WEIGHTS, OUT."""
    if inspect.isclass(target):
        return []
    hints = get_type_hints(target, include_extras=True)
    parameters = inspect.signature(target).parameters.items()
    by_place = [name for name, parameter in parameters if parameter.kind is parameter.POSITIONAL_ONLY]
    return [word for name in by_place for extra in _extras(hints[name]) for word in (extra.metavar or "").split()]


def _extras(hint: Any) -> list[Any]:
    return list(getattr(hint, "__metadata__", ()))


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[Flag]:
    for name, field in model.model_fields.items():
        if inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{prefix}{name.replace('_', '-')}.")
        else:
            yield from _with_negation(prefix, name, field.annotation)


def _with_negation(prefix: str, name: str, kind: Any) -> list[Flag]:
    flag = name.replace("_", "-")
    return [Flag(f"--{prefix}{flag}", kind)] + ([Flag(f"--{prefix}no-{flag}", kind)] if kind is bool else [])
