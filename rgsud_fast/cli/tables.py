"""Tables of figures and scores, as the command line prints them."""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Sequence
from typing import Any

from ..config.figures import DISTANCES, FIGURES, FILTER, INPUT, ROWS
from ..config.rain_types import RAIN_TYPES
from ..config.scorer_names import READY
from ..errors import install


def figures_table(figures: dict[str, Any], distances: Sequence[str] = ()) -> str:
    """The means as lines: input, filter, derained; with those `DISTANCES` that were asked for."""
    head = f"mean of {count_of(figures['images'], 'image')}"
    rgb, rgb_s, y, y_s = FIGURES.values()
    lines = [f"{head:<36}{rgb:>11}{rgb_s:>10}{y:>11}{y_s:>10}"]
    lines[0] += "".join(f"{DISTANCES[name]:>10}" for name in distances)
    rows, shown = {INPUT: ROWS[INPUT], FILTER: ROWS[FILTER], "": "derained"}, (*FIGURES, *distances)
    lines += [_row(label, [[figures[prefix + name]] for name in shown]) for prefix, label in rows.items()]
    kinds = [kind for kind in RAIN_TYPES if f"psnr_rgb_{kind}" in figures]
    parts = {f"{kind}: {RAIN_TYPES[kind]}": [kind] for kind in kinds}
    parts |= {"mean over types": kinds} if len(kinds) > 1 else {}
    for told, some in parts.items():
        for prefix in (INPUT, ""):
            values = [[figures[f"{prefix}{name}_{kind}"] for kind in some] for name in shown]
            lines.append(_row(f"{rows[prefix]}, {told}", values))
    if distances:
        lines.append(f"{', '.join(DISTANCES[name] for name in distances)}: lower is better")
    return "\n".join(lines)


def _row(label: str, values: Sequence[Sequence[float]]) -> str:
    """A label, and the mean of each figure's values: PSNR and SSIM, RGB and Y, then distances."""
    rgb, rgb_s, y, y_s, *far = (sum(some) / len(some) for some in values)
    line = f"{label:<36}{rgb:>8.2f} dB{rgb_s:>10.4f}{y:>8.2f} dB{y_s:>10.4f}"
    return line + "".join(f"{value:>10.4f}" for value in far)


def scores_table(figures: dict[str, Any]) -> str:
    """A line per image, then the mean and the validity."""

    def number(value: float | None) -> str:
        return f"{value:>12.4f}" if value is not None else f"{'none':>12}"

    lines = [f"{figures['metric']:>12}{'of the clean' * ('validity' in figures):>14}  higher is better"]
    for row in figures["images"]:
        clean = f"{number(row['clean_score']):>14}" if "clean_score" in row else ""
        lines.append(f"{number(row['score'])}{clean}  {row['name']}")
    judged = sum(row["score"] is not None for row in figures["images"])
    of = "" if judged == len(figures["images"]) else f"{judged} of "
    lines.append(f"{number(figures['mean'])}  mean of {of}{count_of(figures['images'], 'image')}")
    if of:
        lines.append(f"{'':>12}  none: this score cannot judge the image (too small, flat or damaged)")
    if figures.get("validity") is not None:
        pairs = figures["pairs"]
        lines.append(
            f"{figures['validity']:>12.1%}  of {pairs} pair{'s' * (pairs != 1)}: the clean image scores higher"
        )
    return "\n".join(lines)


def metrics_table() -> str:
    """What `score` takes for a metric, a line each; and the metrics of pyiqa, where it is installed."""
    lines = ["--metric takes, higher is better:"]
    lines += [f"  {name:<16}{told}" for name, told in READY.items()]
    if importlib.util.find_spec("pyiqa") is None:
        return "\n".join([*lines, f"pyiqa is not installed: {install('iqa')}"])
    from ..iqa.from_pyiqa import metric_names

    names = textwrap.wrap(", ".join(metric_names()), 110, break_long_words=False, break_on_hyphens=False)
    return "\n".join([*lines, "METRIC of pyiqa:", *(f"  {line}" for line in names)])


def count_of(things: Sequence[Any], what: str) -> str:
    """How many there are, with their name: 1 image, 2 images."""
    return f"{len(things)} {what}{'s' * (len(things) != 1)}"
