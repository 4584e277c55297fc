"""A toolbox from clean photographs: tools, gate, agent, joint tuning, measurement."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ..config.toolbox import ToolboxConfig
from ..errors import UserError
from ..networks.toolbox import AGENT, TUNED
from ..networks.toolbox.box import load_given, save_tool
from ..runs.checkpoint import save_checkpoint
from ..runs.folder import RunFolder
from ..runs.tensorboard import Events
from ..system.device import pick_device
from ..system.interrupt import Interruption
from ..system.names import takes_home
from ..system.progress import Progress
from ..system.side_by_side import sharing_cores
from ..system.torch_files import load_tensors
from .box_folder import cut_log, refuse_other_contents, refuse_ways_out, save_config, tidy
from .finish import finish
from .fit_agent import FitAgent
from .fit_tools import FitTools
from .gate import Gate
from .joint import TuneJointly
from .measure import Measure
from .phase import Phase
from .settings import Asked, settings_anew, settings_of
from .workshop import Workshop, open_photographs

PHASES: tuple[type[Phase], ...] = (FitTools, Gate, FitAgent, TuneJointly, Measure)
VERSION = 1  # of a toolbox's checkpoint
NEVER = 1 << 40  # a step that no phase comes to: TensorBoard forgets nothing


class Result(NamedTuple):
    """What is left of a training."""

    box: Path
    weights: Path  # of the agent; tools lie beside it
    metrics: dict[str, Any]  # what metrics.json holds


@takes_home
def train(
    clean: str | Path | None = None,
    out: str | Path | None = None,
    *,
    preset: str | None = None,
    config: ToolboxConfig | Mapping[str, Any] | str | Path | None = None,
    run: str | Path | None = None,
    tools: Mapping[str, nn.Module] | None = None,
    resume: bool = False,
    agent_anew: bool = False,
    quiet: bool = False,
    **fields: Any,
) -> Result:
    """Train a toolbox and its agent.

    Args:
        clean: folder of clean photographs, at least 20 of at least 96 pixels on each side; a tenth is held out.
        out: BOX, a new folder; or, to resume, one that was begun.
        preset: toolbox (the paper's twelve tools, for a GPU), toolbox-small (six, the default), or rain-box.
        config: further fields of `ToolboxConfig`: an object, a dict, or a YAML file.
        run: a run whose derainer is a tool in place of those that remove streaks.
        tools: networks of your own by name, [N, 3, H, W] -> the same, as tools that are not trained; give them again
            to resume, and to `load_box`.
        resume: go on in `out`, in any phase, to the same bits, by the version that began it.
        agent_anew: with `resume`, keep the tools and train another agent, by `config` laid over what the folder holds.
        quiet: print nothing.
        fields: single fields, such as `seed` or `device`, over those of `config`.

    Raises:
        UserError: too few or too small photographs, a tool that changes the shape, or a gate that fails; in one line.
        KeyboardInterrupt: by Ctrl-C or SIGTERM, after a checkpoint was saved.
    """
    if out is None:
        raise UserError("a toolbox needs a folder: give --out BOX (in Python: out=)")
    folder = RunFolder(out)
    if resume and not folder.checkpoint.is_file():
        raise UserError(f"nothing to resume: {folder.checkpoint} does not exist; name the toolbox's folder with --out")
    asked = Asked(clean, preset, config, run, fields)
    if agent_anew:
        settings = settings_anew(folder.path, resume, asked)
    else:
        settings = settings_of(folder.path, resume, asked, tools)
    if settings.clean is None:
        raise UserError("a toolbox is made of clean photographs: give their folder, CLEAN")
    device = pick_device(settings.device)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.own()
    with (
        sharing_cores(device, foreign=bool(tools)),
        folder.remove_if_empty(),  # after the file of its lock
        folder.releasing(),
        Progress(len(PHASES), quiet=quiet) as progress,
        folder.explain_full_disks(),
    ):
        if not resume:
            refuse_other_contents(folder)
        refuse_ways_out(folder)
        tidy(folder)
        photographs = open_photographs(settings.clean, folder.cache, progress.of("reading photographs"))
        workshop = Workshop(settings, folder, photographs, device, dict(tools or {}))
        saved = _load(folder.checkpoint) if resume else None
        if saved is not None:
            _refuse_other_photographs(workshop, saved)
        if agent_anew:
            saved = restart_at_gate(folder, settings, photographs.digests)
        if not resume or clean is not None:
            save_config(settings, folder)
        if not resume:
            _bring_given(workshop, run)
        check_shapes(workshop)
        _phases(workshop, saved, progress)
        metrics = finish(workshop, progress)
    return Result(folder.path, folder.path / "agent.safetensors", metrics)


def _phases(workshop: Workshop, saved: dict[str, Any] | None, progress: Progress) -> None:
    """Go through what is left of the phases."""
    folder, start = workshop.folder, saved["place"] if saved else 0
    workshop.results.update(saved["results"] if saved else {})

    def acknowledge() -> None:
        progress.say("stopping after this part, and saving")

    with Interruption(acknowledge) as interruption, contextlib.ExitStack() as closing:
        cut_log(folder, start, saved["done"] if saved else 0)
        events = Events(folder.events, NEVER)
        closing.callback(events.close)
        for place in range(start, len(PHASES)):
            phase, taken_up = PHASES[place](workshop), saved is not None and place == start and bool(saved["phase"])
            if saved is not None and taken_up:
                phase.load_state_dict(saved["phase"], progress.of(f"{phase.name}: playing again"))
            last = time.monotonic()
            while not phase.ended:
                row = phase.advance()
                progress.phase(phase.name, phase.done, phase.total)
                if row:
                    folder.append_log({"step": phase.done, "place": place, "phase": phase.name, **row})
                    for name, value in row.items():
                        events.add_scalar(f"{phase.name}/{name}", value, phase.done)
                due = time.monotonic() - last >= 60 * workshop.config.save_minutes
                if due or interruption.asked:
                    _save(workshop, place, phase.done, phase.state_dict())
                    last = time.monotonic()
                if interruption.asked:
                    progress.say(
                        f"stopped in the phase {phase.name}; rgsud-fast toolbox train --resume --out {folder.path} "
                        "goes on"
                    )
                    raise KeyboardInterrupt
            phase.finish()
            _save(workshop, place + 1, 0, {})
            progress.say(f"{phase.name}: done")


def _save(workshop: Workshop, place: int, done: int, state: dict[str, Any]) -> None:
    about = {"place": place, "done": done, "results": workshop.results, "phase": state}
    _write_checkpoint(workshop.folder, about, workshop.photographs.digests)


def _write_checkpoint(folder: RunFolder, about: dict[str, Any], photographs: Sequence[str] | None) -> None:
    save_checkpoint(folder.checkpoint, {"toolbox": VERSION, **about, "photographs": photographs and list(photographs)})


def _load(path: Path) -> dict[str, Any]:
    """A checkpoint of a toolbox.

    Raises:
        UserError: it is damaged, or something else's.
    """
    try:
        saved = load_tensors(path)
    except (OSError, ValueError) as error:
        raise UserError(f"checkpoint {path} cannot be read: {error}; start a new toolbox") from None
    kinds = {"place": int, "done": int, "results": dict, "phase": dict}
    ours = isinstance(saved, dict) and saved.get("toolbox") == VERSION
    if not ours or not all(isinstance(saved.get(name), kind) for name, kind in kinds.items()):
        raise UserError(f"checkpoint {path} is none of a toolbox of this version; start a new one")
    return saved


def restart_at_gate(
    folder: RunFolder, config: ToolboxConfig, photographs: Sequence[str] | None = None
) -> dict[str, Any]:
    """Let a toolbox go on with the gate and a new agent, by another configuration; what came of the old one goes.

    The checkpoint, whose content is returned, is written first and the configuration last, so that a toolbox whose
    change is cut short goes on as it was.
    """
    if photographs is None and folder.checkpoint.is_file():
        photographs = _load(folder.checkpoint).get("photographs")
    about: dict[str, Any] = {"place": PHASES.index(Gate), "done": 0, "results": {}, "phase": {}}
    _write_checkpoint(folder, about, photographs)
    (folder.path / AGENT).unlink(missing_ok=True)
    shutil.rmtree(folder.path / TUNED, ignore_errors=True)
    folder.metrics.unlink(missing_ok=True)
    save_config(config, folder)
    return about


def _refuse_other_photographs(workshop: Workshop, saved: dict[str, Any]) -> None:
    """Demand the photographs that the tools saw, of which a tenth was held out; their folder may have moved.

    Raises:
        UserError: they are others.
    """
    photographs = saved.get("photographs")  # not in older files
    if photographs is not None and list(workshop.photographs.digests) != photographs:
        raise UserError(
            f"{workshop.config.clean} does not hold the photographs that {workshop.folder.path} was made of: "
            "name their folder, or start a new toolbox"
        )


def _bring_given(workshop: Workshop, run: str | Path | None) -> None:
    """Copy a run's derainer, and tools of the user's own, to where tools lie."""
    for tool in workshop.config.tools:
        own = workshop.own.get(tool.name)
        if tool.damage == "given" and own is None:
            if run is None:
                raise UserError(f"the tool {tool.name} is given, but nobody gives it: name a run, or train's tools=")
            own = load_given(run)
        if own is not None:
            save_tool(workshop.tool_path(tool), own)


@torch.no_grad()
def check_shapes(workshop: Workshop) -> None:
    """Demand that tools which come trained keep the shape.

    Raises:
        UserError: one does not.
    """
    for tool in workshop.config.tools:
        if tool.damage != "given":
            continue
        image = torch.zeros(2, 3, workshop.side, workshop.side, device=workshop.device)
        made = workshop.tool(tool)(image)
        if made.shape != image.shape:
            raise UserError(
                f"the tool {tool.name} makes {list(made.shape)} of {list(image.shape)}: a tool must keep the shape"
            )
