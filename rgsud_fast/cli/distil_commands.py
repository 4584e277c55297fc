"""The commands that make training data of public sets: index, distil.

torch is imported by the command that needs it, so that --help and mistakes are answered at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from ..config.rain_types import FIT_ITERATIONS, RAIN_TYPES, RainType
from ..errors import UserError
from ..system.device_names import check_device
from ..system.given import check_images, check_index
from ..system.watch import Watch, nobody
from .options import Device, MaybeFolder
from .tables import count_of

_REJECTED = 6  # reasons that the command line names


def index(
    references: Annotated[Path, arg(metavar="REFERENCES")],
    output: Annotated[Path, arg(metavar="OUT")],
    /,
    clean: MaybeFolder = None,
    clip: MaybeFolder = None,
    captions: MaybeFolder = None,
    iterations: int = FIT_ITERATIONS,
    seed: int = 0,
    device: Device = "auto",
) -> None:
    """Index real rainy photographs, with which distil compares labelled pairs; go on where it was interrupted.

    Args:
        references: Folder of photographs in the rain, searched recursively, 20 at least; they need no labels.
        output: Folder of the index.
        clean: Folder of clean photographs, on which what tells types of rain apart is fitted; default: embedded ones.
        clip: Folder of a CLIP model of transformers, whose features find photographs that look alike (extra vlm).
        captions: Folder of a captioner such as BLIP, whose words CLIP compares in place of numbers (extra vlm).
        iterations: Of that fit.
        seed: Of the same.
    """
    check_device(device)
    check_images(references, clean)
    from ..distillation.index import index
    from ..system.progress import counting

    options: dict[str, Any] = {"clean": clean, "clip": clip, "captions": captions}
    options |= {"iterations": iterations, "seed": seed, "device": device, "say": _say}
    with counting("done:") as watch:
        options |= {"watch": _named(watch, "photographs"), "watch_fit": _named(watch, "steps of the fit")}
        figures = index(references, output, **options)
    if _first():
        for name, why in figures["left_out"]:
            print(f"left out: {name}: {why}", file=sys.stderr)
        types = ", ".join(f"{count} {kind}" for kind, count in figures["types"].items())
        print(f"indexed {figures['photographs']} photographs into {output}: {types}")


def distil(
    paths: Annotated[tuple[Path, ...], arg(metavar="INDEX PAIRS... OUT")],
    /,
    clean: MaybeFolder = None,
    trusted: MaybeFolder = None,
    budget: int | None = None,
    per_type: int | None = None,
    strictness: float = 0.05,
    judge: tuple[str, ...] = (),
    layout: str | None = None,
    type: RainType | None = None,
    seed: int = 0,
    device: Device = "auto",
) -> None:
    """Keep of labelled pairs those that judges find good beside real photographs; go on where it was interrupted.

    Args:
        paths: The folder of rgsud-fast index, folders of pairs, and the folder to write to.
        clean: Folder of clean photographs; rain rendered on them makes the pairs that judges are fitted to.
        trusted: Folder of pairs that judges are fitted to, instead or beside.
        budget: Most pairs to keep in all, shared evenly among the types of rain.
        per_type: Most pairs to keep of each type.
        strictness: Share of trusted pairs that may be lost.
        judge: Vision-language models that vote on what is left, each vlm:FOLDER (extra vlm).
        layout: Layout of the pairs, where names do not tell it.
        type: Type of rain of all pairs, where neither names nor the network shall tell it.
        seed: Of the rendered pairs.
    """
    check_device(device)
    if len(paths) < 3:
        raise UserError(
            f"distil takes INDEX PAIRS... OUT, three folders or more, and got {count_of(paths, 'path')}; rgsud-fast "
            "distil --help explains the arguments"
        )
    place, *pairs, output = paths
    check_index(place)
    check_images(*pairs, clean, trusted)
    from ..distillation.distil import distil
    from ..system.progress import counting

    options: dict[str, Any] = {"clean": clean, "trusted": trusted, "budget": budget, "per_type": per_type}
    options |= {"strictness": strictness, "judges": judge, "layout": layout, "type": type, "seed": seed}
    with counting("done:") as watch:
        options |= {"watch": _named(watch, "pairs judged"), "watch_trusted": _named(watch, "trusted pairs measured")}
        figures = distil(place, pairs, output, device=device, say=_say, **options)
    if _first():
        print(_table(figures))
        print(f"wrote {output / 'kept.jsonl'}: rgsud-fast train --data.pairs {output}; why: {output / 'report.html'}")


def _say(line: str) -> None:
    if _first():
        print(line, flush=True)


def _named(watch: Any, name: str) -> Watch:
    """Show how far something is, of the first process."""
    return (lambda done, total: watch(done, total, name)) if _first() else nobody


def _first() -> bool:
    """Of torchrun's processes the first one speaks."""
    return os.environ.get("RANK", "0") == "0"


def _table(figures: dict[str, Any]) -> str:
    """A line per type, the commonest reasons, and what a pair costs."""
    lines = [f"{'':<24}{'pairs':>10}{'kept':>10}"]
    rejected: dict[str, int] = {}
    for kind, counts in figures["outcomes"].items():
        lines.append(f"{RAIN_TYPES.get(kind, kind):<24}{sum(counts.values()):>10,}{counts.get('kept', 0):>10,}")
        for outcome, count in counts.items():
            rejected[outcome] = rejected.get(outcome, 0) + count
    rejected.pop("kept", None)
    most = sorted(rejected.items(), key=lambda item: -item[1])[:_REJECTED]
    lines += [f"{count:>10,}  {outcome}" for outcome, count in most]
    if figures["judged_now"]:
        each, hours = figures["seconds_per_pair"], figures["hours_per_million_and_process"]
        lines.append(f"{each:.3f} s a pair and process: a million pairs take one process {hours:,.0f} hours")
    return "\n".join(lines)
