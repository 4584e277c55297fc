"""A tool of the user's own in a toolbox that is there already."""

from __future__ import annotations

from pathlib import Path

from ..config.toolbox import load_toolbox_config
from ..errors import UserError
from ..networks.toolbox import TOOLS
from ..networks.toolbox.box import load_given, save_tool
from ..runs.folder import RunFolder
from ..system.names import takes_home
from .box_folder import refuse_ways_out
from .settings import with_its_tools
from .train import restart_at_gate


@takes_home
def add(box: str | Path, name: str, weights: str | Path) -> Path:
    """Put a network into a toolbox as a further tool. The agent knows nothing of it, and is removed.

    Args:
        box: a toolbox whose tools are trained.
        name: of the new tool.
        weights: a run, whose derainer it is; a file of a derainer; or a tool of another toolbox.

    Returns:
        The tool's file. `train(out=box, resume=True)` goes on with the gate and trains a new agent.

    Raises:
        UserError: no toolbox, a name that is taken, or weights that cannot be used.
    """
    box = Path(box)
    config = with_its_tools(box)
    path = box / TOOLS / f"{name}.safetensors"
    for tool in config.tools:
        if tool.name == name:
            raise UserError(f"{box} has a tool {name} already: give another name")
        if not (box / TOOLS / f"{tool.name}.safetensors").is_file():
            raise UserError(f"the tools of {box} are not trained yet: rgsud-fast toolbox train --resume --out {box}")
    new = {"name": name, "damage": "given"}
    changed = load_toolbox_config(config.model_dump() | {"tools": [*(t.model_dump() for t in config.tools), new]})
    folder = RunFolder(box)
    folder.own()
    with folder.releasing():
        refuse_ways_out(folder)
        save_tool(path, load_given(weights))
        restart_at_gate(folder, changed)
    return path
