"""A toolbox on disk: BOX/tools/NAME.safetensors, BOX/tools-joint/NAME.safetensors, BOX/agent.safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ...config.box_files import AGENT, CONFIG, TOOLS, TUNED, check_box
from ...config.toolbox import ToolboxConfig, ToolConfig, load_toolbox_config
from ...errors import UserError, reason
from ...system.files import replacing
from ...system.names import printable
from ...system.safetensors_bytes import safetensors_bytes
from ...version import version
from .. import NAFNet
from ..weights import FORMAT, load_network, pack_network, read_tensors
from .agent import Agent
from .chain import Chain
from .tools import Tool

SIDES = 16, 256  # least and most of what an agent looks at, in pixels


def load_box(path: str | Path, own: Mapping[str, nn.Module] | None = None, steps: int | None = None) -> Chain:
    """Build the chain of a toolbox, on the CPU, in evaluation mode, without gradients; tuned tools where there are.

    Args:
        path: the folder.
        own: tools of the user's own by name, which no file can build.
        steps: most tools of a chain, 1 to 3; None takes the toolbox's.

    Raises:
        UserError: no toolbox, damaged files, a tool of the user's own that is not given, or other tools than the agent
            has learned with; the message says what to do.
    """
    path = Path(path)
    check_box(path)
    config = load_toolbox_config(path / CONFIG)
    names = [tool.name for tool in config.tools]
    agent = read_agent(path / AGENT, names)
    tools = [load_tool(_newest(path, tool), (own or {}).get(tool.name)) for tool in config.tools]
    return Chain(names, tools, agent, steps or config.agent.steps).eval().requires_grad_(False)


def save_tool(path: Path, tool: nn.Module) -> None:
    """Write a tool, all or nothing; one of the user's own without what would build it again."""
    if isinstance(tool, Tool):
        content = _pack(tool, "tool", {"net": tool.net})
    else:
        content = pack_network(tool, "derainer", {"use": "tool"} if type(tool) is NAFNet else None)
    _write(path, content)


def save_agent(path: Path, agent: Agent, names: Sequence[str]) -> None:
    """Write an agent with the names of its tools, all or nothing."""
    eye = {"eye": "pooled"} if agent.pooled else {}
    _write(path, _pack(agent, "agent", {"side": str(agent.side), **eye, "tools": json.dumps(list(names))}))


def load_tool(path: Path, own: nn.Module | None = None) -> nn.Module:
    """One tool as it lies on disk, or as the user gives it.

    Raises:
        UserError: the file is missing or damaged, or holds a network that only its maker can build.
    """
    if own is not None:
        return own
    if not path.is_file():
        raise UserError(f"{path.parent.parent} has no tool {path.stem}: {path} is missing; train the toolbox again")
    text, tensors = read_tensors(path)
    if text["kind"] == "derainer":
        return load_network(path, "derainer")
    if text["kind"] != "tool":
        raise UserError(f"{path} holds a {printable(text['kind'])}, not a tool; train the toolbox again")
    net = text.get("net")
    try:
        made = Tool("large" if net == "large" else "small")
        made.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit a tool of this version ({reason(error)}); train it again") from None
    return made.eval().requires_grad_(False)


def load_given(weights: str | Path) -> nn.Module:
    """A trained network to be a tool: a run's derainer, a file of one, or a tool of another toolbox.

    Raises:
        UserError: none of these, or a whole toolbox, whose chain no file of a tool could build again.
    """
    network = load_network(weights, "derainer")
    if isinstance(network, Chain):
        raise UserError(
            f"{weights} holds no network that a file can build: give a run, a file of a derainer, or a tool of "
            "another toolbox"
        )
    return network


def configured(path: Path) -> ToolboxConfig:
    """The configuration of a toolbox, finished or not.

    Raises:
        UserError: there is none.
    """
    if not (path / CONFIG).is_file():
        raise UserError(f"{path} holds no toolbox: it has no {CONFIG}")
    return load_toolbox_config(path / CONFIG)


def _newest(path: Path, tool: ToolConfig) -> Path:
    tuned = path / TUNED / f"{tool.name}.safetensors"
    return tuned if tuned.is_file() else path / TOOLS / f"{tool.name}.safetensors"


def read_agent(path: Path, names: list[str]) -> Agent:
    """The agent of a file, in evaluation mode, without gradients.

    Raises:
        UserError: a damaged file, or one that has learned with other tools.
    """
    anew = f"rgsud-fast toolbox train --resume --agent-anew --out {path.parent}"
    if not path.is_file():
        raise UserError(f"{path.parent} has no agent ({path.name} is missing): {anew} trains one")
    text, tensors = read_tensors(path)
    try:
        known, side = json.loads(text.get("tools", "null")), int(text.get("side", "63"))
        if known != names:
            raise UserError(
                f"{path} has learned with the tools {', '.join(map(str, known or ()))}, and the toolbox has "
                f"{', '.join(names)}: {anew} trains one of its own"
            )
        if not SIDES[0] <= side <= SIDES[1]:
            raise ValueError(f"it says that it looks at {side} x {side} pixels")
        agent = Agent(len(names), side, text.get("eye") == "pooled")
        agent.load_state_dict(tensors)
    except (ValueError, RuntimeError, RecursionError, TypeError) as error:
        raise UserError(f"{path} does not fit the agent of this version ({reason(error)}): {anew}") from None
    return agent.eval().requires_grad_(False)


def _pack(module: nn.Module, kind: str, text: dict[str, str]) -> bytes:
    tensors: dict[str, Any] = {n: t.detach().cpu().contiguous().clone() for n, t in module.state_dict().items()}
    return safetensors_bytes(tensors, {"format": FORMAT, "kind": kind, "version": version(), **text})


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
