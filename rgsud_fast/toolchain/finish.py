"""What a finished toolbox leaves: metrics.json, a card, a gallery, and a few lines for its user."""

from __future__ import annotations

import shlex
from typing import Any

from ..runs.folder import RunFolder
from ..system.files import write_text
from ..system.progress import Progress
from .gallery import write_box_gallery
from .ladder import LADDER
from .workshop import Workshop

HONEST = (
    "One network as large as the whole toolbox reaches a higher PSNR. The chain is for what such a network is not: it "
    "can be read step by step, takes tools of others, and makes candidates for rewards."
)


def finish(workshop: Workshop, progress: Progress) -> dict[str, Any]:
    """Write what is left to write; returns the metrics."""
    folder, config = workshop.folder, workshop.config
    metrics = {"preset": config.preset, "seed": config.seed, "tools": workshop.names, **workshop.results}
    folder.write_metrics(metrics)
    _write_card(folder, metrics)
    write_box_gallery(workshop, metrics, progress.of("gallery"))
    for line in (*summary(metrics), *advice(metrics, folder), *_what_next(folder)):
        progress.say(line)
    return metrics


def summary(metrics: dict[str, Any]) -> list[str]:
    """The ladder, a line each."""
    means = metrics["ladder"]["mean"]
    return [f"{LADDER[name]:>36}: {means[name]:+.2f} dB" for name in LADDER if name in means]


def advice(metrics: dict[str, Any], folder: RunFolder) -> list[str]:
    """What went wrong, with its mend, a line each: tools that nowhere help, an agent worse than one of its tools."""
    lines, means = [], metrics["ladder"]["mean"]
    if dead := [name for name, found in metrics["gate"]["tools"].items() if not found["helps"]]:
        lines.append(
            f"dead tools, which helped none of the gate's images: {', '.join(dead)}; start anew without them, or with "
            "more fit.steps or wider bands"
        )
    if means["agent"] < means["single"]:
        again = f"rgsud-fast toolbox train --resume --agent-anew --config FILE --out {shlex.quote(str(folder.path))}"
        single = "".join(metrics["rivals"]["single"])  # none where every tool alone does harm
        best = f"its best single tool ({single}, {means['single']:+.2f} dB)" if single else "doing nothing"
        lines.append(
            f"the agent gains {means['agent']:+.2f} dB, less than {best}: train another one with a larger agent.total "
            f"in FILE: {again}"
        )
    return lines


def _what_next(folder: RunFolder) -> list[str]:
    box = shlex.quote(str(folder.path))
    return [
        f"everything is in {folder.path}; look at {folder.gallery}",
        f"your photographs: rgsud-fast toolbox run {box} PHOTOS OUT, or rgsud-fast derain {box} PHOTOS OUT",
    ]


def _write_card(folder: RunFolder, metrics: dict[str, Any]) -> None:
    """README.md beside the weights; one that is there already stays."""
    path = folder.path / "README.md"
    mark = "<!-- rgsud_fast wrote this card of a toolbox -->"
    if path.exists() and mark not in path.read_text(encoding="utf-8", errors="replace"):
        return
    rows = "\n".join(f"| {line.split(':')[0].strip()} | {line.split(':')[1].strip()} |" for line in summary(metrics))
    write_text(
        path,
        f"# Toolbox of {len(metrics['tools'])} tools\n\n{mark}\n\n"
        f"Made with rgsud_fast after RL-Restore (CVPR 2018, arXiv 1804.03312): {', '.join(metrics['tools'])}, and an "
        f"agent that chains up to three of them.\n\n| held-out episodes, all severities | gain over the input |\n"
        f"|---|---|\n{rows}\n\n{HONEST}\n\n"
        '```python\nimport rgsud_fast\n\nimage, trace = rgsud_fast.toolbox.run(BOX, "photo.jpg", trace=True)\n```\n',
    )
