"""The configuration of a toolbox: asked for anew, as its folder holds it, or of another agent for the same tools."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from ..config import merge
from ..config.load import read_yaml
from ..config.toolbox import ToolboxConfig, load_toolbox_config
from ..config.toolbox_presets import TOOLBOX_PRESETS, with_run
from ..errors import UserError
from ..networks.toolbox import TOOLS
from ..networks.toolbox.box import CONFIG, configured

Given = ToolboxConfig | Mapping[str, Any] | str | Path | None
_LATER = {  # as boxes began that knew no such fields
    "agent": {"turns": False, "every_tool": False, "average": 0.0, "pooled": False, "jitter": 0.0, "undamaged": 0.0},
    "fit": {"idle": 0.0},
}
_OF_TOOLS = ("preset", "seed", "tools", "fit")  # fields that made the tools


class Asked(NamedTuple):
    """What a user asks for, as `train` takes it."""

    clean: str | Path | None
    preset: str | None
    config: Given
    run: str | Path | None
    fields: Mapping[str, Any]


def settings_of(box: Path, resume: bool, asked: Asked, tools: Mapping[str, nn.Module] | None) -> ToolboxConfig:
    """The configuration as asked for, or as the folder holds it; see `train` for the arguments.

    Raises:
        UserError: a field that cannot be, or, to resume, one that would change what is done.
    """
    clean, preset, config, run, fields = asked
    if resume:
        if preset is not None or config is not None or run is not None:
            raise UserError(f"{box} goes on as it was begun: leave preset, config and run out, or start anew")
        given = merge(_LATER, read_yaml(box / CONFIG)) | ({"clean": clean} if clean is not None else {})
        return load_toolbox_config(given | {name: value for name, value in fields.items() if name == "device"})
    given = config.model_dump() if isinstance(config, ToolboxConfig) else _read(config)
    given |= dict(fields) | ({"preset": preset} if preset is not None else {}) | ({"clean": clean} if clean else {})
    given.setdefault("preset", "toolbox-small")
    of_preset = TOOLBOX_PRESETS.get(str(given["preset"]), {}).get("tools", ())
    base = list(of_preset if given.get("tools") is None else given["tools"])
    if run is not None:
        base = with_run(base)
    names = {tool["name"] for tool in base if isinstance(tool, dict)}
    base += [{"name": name, "damage": "given"} for name in tools or {} if name not in names]
    return load_toolbox_config(given | ({"tools": base} if base else {}))


def settings_anew(box: Path, resume: bool, asked: Asked) -> ToolboxConfig:
    """The configuration of another agent for the tools in a folder: what it holds, and `config` over that.

    Raises:
        UserError: tools that are not trained, or a field that made them.
    """
    clean, preset, config, run, fields = asked
    if not resume or preset is not None or run is not None or isinstance(config, ToolboxConfig):
        raise UserError("another agent is for a toolbox that is there: give --resume with --agent-anew, and no preset")
    kept = with_its_tools(box)
    for tool in kept.tools:
        if not (box / TOOLS / f"{tool.name}.safetensors").is_file():
            raise UserError(f"the tools of {box} are not trained yet: give --resume alone")
    given = _read(config) | dict(fields) | ({"clean": clean} if clean is not None else {})
    if fixed := [name for name in _OF_TOOLS if name in given]:
        raise UserError(f"{', '.join(fixed)}: of this the tools in {box} were made: leave it out, or begin anew")
    return load_toolbox_config(merge(kept.model_dump(), given))


def with_its_tools(box: Path) -> ToolboxConfig:
    """What a folder holds, its tools being kept: fields of tools that it knows not are as these tools were made.

    Raises:
        UserError: there is no toolbox.
    """
    configured(box)
    return load_toolbox_config(merge({"fit": _LATER["fit"]}, read_yaml(box / CONFIG)))


def _read(config: Mapping[str, Any] | str | Path | None) -> dict[str, Any]:
    return read_yaml(Path(config)) if isinstance(config, (str, Path)) else dict(config or {})
