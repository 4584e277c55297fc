"""The commands about toolboxes: toolbox train, run, evaluate, add.

torch is imported by the command that needs it, so that --help and mistakes are answered at once.
"""

from __future__ import annotations

import json as json_text
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from ..config.tiling import TILE
from ..config.toolbox import SEVERITIES, Severity
from ..errors import UserError, either
from ..system.device_names import check_device
from ..system.files import write_text
from ..system.given import check_images, check_target, check_weights
from .arguments import later, parse
from .mistakes import missing, unknown
from .options import Device, MaybeFile, MaybeFolder, Tile
from .tables import count_of, figures_table

Box = Annotated[Path, arg(metavar="BOX")]
_PROG = "rgsud-fast toolbox"
_USAGE = """usage: rgsud-fast toolbox train|run|evaluate|add [arguments]

Repair photographs by a chain of small networks that an agent chooses for each (RL-Restore; docs/toolbox.md).

  train CLEAN --out BOX    train tools and agent on clean photographs
  run BOX PHOTOS OUT       repair photographs; --trace DIR tells what the agent thought
  evaluate BOX --clean DIR measure the agent beside every baseline, or with --pairs DIR on rainy/ and clean/
  add BOX NAME WEIGHTS     put a network of your own into a toolbox, as a further tool

`rgsud-fast toolbox COMMAND --help` explains the arguments.
"""


def train(
    clean: Annotated[Path | None, arg(metavar="[CLEAN]")] = None,
    /,
    *,
    out: Annotated[Path, arg(metavar="BOX")],
    preset: Literal["toolbox", "toolbox-small", "rain-box"] | None = None,
    config: MaybeFile = None,
    run: Annotated[Path | None, arg(metavar="RUN")] = None,
    seed: int | None = None,
    device: Device = "auto",
    resume: bool = False,
    agent_anew: bool = False,
) -> None:
    """Train tools one by one, then an agent that chains them, then both together, and measure.

    Args:
        clean: Folder of clean photographs, at least 20 of at least 96 pixels on each side.
        out: Folder of the toolbox.
        preset: toolbox (the paper's 12 tools, for a GPU), toolbox-small (6, for two cores; the default) or rain-box
            (streaks, drops, noise, blur, JPEG, night).
        config: YAML file of fields, laid over the preset; docs/toolbox.md lists them.
        run: Run folder or derainer whose network is a tool in place of those that remove streaks.
        seed: Of everything that is drawn; default 0.
        resume: Go on in BOX, in whatever phase it was, to the same bits.
        agent_anew: With --resume: keep the tools, and train another agent, by --config laid over BOX/config.yaml.
    """
    check_device(device)
    check_images(clean)
    if run is not None:
        check_weights(run)
    if clean is None and not resume and not agent_anew:
        raise missing({"CLEAN": clean}, f"{_PROG} train")
    given: dict[str, Any] = {"device": None if device == "auto" else device, "seed": seed}
    fields = {name: value for name, value in given.items() if value is not None}  # over those of a file
    from ..toolchain.train import train

    train(clean, out, preset=preset, config=config, run=run, resume=resume, agent_anew=agent_anew, **fields)


def run(
    box: Box,
    photos: Annotated[Path, arg(metavar="PHOTOS")],
    output: Annotated[Path, arg(metavar="OUT")],
    /,
    steps: int = 3,
    per_tile: bool = False,
    trace: MaybeFolder = None,
    tile: Tile = TILE,
    device: Device = "auto",
) -> None:
    """Repair photographs by the chains that the agent of a toolbox chooses.

    Args:
        box: Folder of a toolbox.
        photos: Image, or folder, searched recursively.
        output: Folder to write to; for one image also a file name.
        steps: Most tools of a chain, 1 to 3.
        per_tile: Each cell of 64 pixels gets a chain of its own, for damage that is local, as drops are.
        trace: Folder that gets what the agent thought, and the photograph after each tool.
    """
    check_device(device)
    check_images(photos)
    check_weights(box, "agent")
    from ..inference.toolbox import run
    from ..system.progress import counting

    options: dict[str, Any] = {"steps": steps, "per_tile": per_tile, "trace": trace or False, "tile": tile}
    with counting("repaired") as watch:
        written = run(box, photos, output, device=device, watch=watch, **options)
    print(f"wrote {count_of(written, 'image')} to {output}")


def evaluate(
    box: Box,
    /,
    clean: MaybeFolder = None,
    pairs: MaybeFolder = None,
    severity: Severity | None = None,
    episodes: int = 96,
    json: MaybeFile = None,
    device: Device = "auto",
) -> None:
    """Measure a toolbox: its agent beside every baseline on made-up damage, or on pairs.

    Args:
        box: Folder of a toolbox.
        clean: Folder of clean photographs that it was not trained on.
        pairs: Folder with the folders rainy and clean, matched by file name.
        severity: One alone; default: all three.
        episodes: Patches per severity.
        json: File to write the figures to.
    """
    check_device(device)
    check_weights(box, "agent")
    check_target(json)
    if (clean is None) == (pairs is None):
        raise UserError(f"give one of --clean and --pairs; {_PROG} evaluate --help explains the arguments")
    check_images(clean)
    figures: dict[str, Any]
    if clean is not None:
        from ..toolchain.evaluate import evaluate

        figures = evaluate(box, clean, severity=severity, episodes=episodes, device=device)
        print(_ladder_table(figures))
    elif pairs is not None:
        check_images(pairs / "rainy", pairs / "clean")
        from ..inference.evaluate import evaluate as evaluate_pairs
        from ..inference.toolbox import single_tools
        from ..system.progress import counting

        with counting("evaluated") as watch:
            figures = evaluate_pairs(box, pairs / "rainy", pairs / "clean", device=device, watch=watch)
        print(figures_table(figures))
        figures["single_tools"] = single_tools(box, pairs / "rainy", pairs / "clean", device=device)
        print("\n".join(f"{f'{name} alone':<36}{value:>8.2f} dB" for name, value in figures["single_tools"].items()))
    if json is not None:
        write_text(json, json_text.dumps(figures, indent=2) + "\n")


def add(
    box: Box,
    name: Annotated[str, arg(metavar="NAME")],
    weights: Annotated[Path, arg(metavar="WEIGHTS")],
    /,
) -> None:
    """Put a network of your own into a toolbox as a further tool; its agent is then trained anew.

    Args:
        box: Folder of a toolbox.
        name: Of the new tool.
        weights: Run folder, derainer's weights, or a tool of another toolbox.
    """
    check_weights(box, "agent")
    check_weights(weights)
    from ..toolchain.add import add

    print(f"wrote {add(box, name, weights)}; train the agent anew: {_PROG} train --resume --out {box}")


_COMMANDS: dict[str, Callable[..., None]] = {"train": train, "run": run, "evaluate": evaluate, "add": add}


def toolbox(args: list[str]) -> None:
    """Run one of the commands about toolboxes.

    Raises:
        UserError: something to mend, in one line.
        SystemExit: --help was printed.
    """
    if args and args[0] in _COMMANDS:
        parse(later(_COMMANDS[args[0]]), args[1:], f"{_PROG} {args[0]}")()
        return
    if {"-h", "--help"} & set(args[:1]):
        print(_USAGE, end="")
        return
    if stray := next((arg for arg in args if arg.startswith("-")), None):
        raise unknown(_nothing, stray, _PROG)
    got = f", got {args[0]!r}" if args else ""
    raise UserError(f"toolbox takes {either(list(_COMMANDS))}{got}; {_PROG} --help explains them")


def offered(command: Annotated[Literal["train", "run", "evaluate", "add"], arg(metavar="COMMAND")], /) -> None:
    """What a shell completes after `toolbox`."""


def _nothing() -> None:
    """No flags."""


def _ladder_table(figures: dict[str, Any]) -> str:
    """A line per rung, a column per severity."""
    from ..toolchain.ladder import LADDER

    shown = [severity for severity in SEVERITIES if severity in figures]
    lines = [f"{'gain over the input, dB':<36}" + "".join(f"{severity:>10}" for severity in shown)]
    for name, label in LADDER.items():
        if all(name in figures[severity] for severity in shown):
            lines.append(f"{label:<36}" + "".join(f"{figures[severity][name]:>+10.2f}" for severity in shown))
    return "\n".join(lines)
