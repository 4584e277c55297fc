"""The curves of a run as small inline SVG charts, one per quantity, from the rows of metrics.jsonl."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any, NamedTuple

from ...config.figures import FIGURES
from ...config.parts import PARTS, part_of

WIDTH, HEIGHT = 300, 110  # of the drawing, in SVG units
LEFT, RIGHT, TOP, BOTTOM = 38, 6, 6, 16
MOST_POINTS = 240  # more are averaged in groups: a chart is no wider than that in pixels
_NOT_CURVES = {"step", "stage", "event", "time", "seconds", "images", "seeded"}

# Group, key in the log, label. Keys not named here follow under "Gradient norms" (gradient_*) and "Losses".
KNOWN = (
    *(("Validation", key, f"{label}, dB" if key.startswith("psnr") else label) for key, label in FIGURES.items()),
    ("Reward pool", "mean_score", "mean score of the kept rewards"),
    ("Reward pool", "rewards", "images with a reward"),
    ("Reward pool", "entered", "versions that entered, per sweep"),
    ("Reward pool", "toolbox", "versions of the toolbox that entered, per sweep"),
    ("Reward pool", "refused", "versions refused, per sweep"),
    ("Losses", "adversarial", "adversarial (generator side)"),
    ("Losses", "discriminator", "discriminator"),
    ("Losses", "pair_psnr", "pseudo pair, -PSNR in dB"),
    ("Losses", "pair_ssim", "pseudo pair, 1 - SSIM"),
    ("Losses", "pasted_psnr", "pasted pair, -PSNR in dB"),
    ("Losses", "pasted_ssim", "pasted pair, 1 - SSIM"),
    ("Losses", "reward", "self-reinforcement"),
    *(("Gradient norms", f"norm_{name}", f"all terms, {part_of(name).label}") for name in PARTS["rgsud"]),
    ("Run", "learning_rate", "learning rate"),
    ("Run", "images_per_second", "images per second"),
    ("Run", "skipped", "steps skipped so far"),
    ("Run", "skipped_discriminator", "discriminator's steps skipped so far"),
)
_OF_A_TERM = "gradient_"  # gradient_TERM_NETWORK


class Series(NamedTuple):
    """One quantity over the run."""

    group: str
    label: str
    points: list[tuple[float, float]]  # (step, value)
    key: str


class Band(NamedTuple):
    """A span of steps, up to the next one."""

    step: float  # where it begins
    name: str


def collect(log: Iterable[Mapping[str, Any]]) -> list[Series]:
    """Sort the rows of a log, each with a `step`, into one series per quantity; what is no number is left out."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in log:
        for key, value in row.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if number and "step" in row and key not in _NOT_CURVES:
                points.setdefault(key, []).append((row["step"], value))
    known = [Series(group, label, points[key], key) for group, key, label in KNOWN if key in points]
    named = {series.key for series in known}
    rest = [Series(*_group_and_label(key), values, key) for key, values in points.items() if key not in named]
    groups = list(dict.fromkeys(group for group, _, _ in KNOWN))
    return sorted(known + rest, key=lambda series: groups.index(series.group))


def _group_and_label(key: str) -> tuple[str, str]:
    """Group and label of a quantity that is not known."""
    if key.startswith("norm_"):
        return "Gradient norms", f"all terms, {part_of(key.removeprefix('norm_')).label}"
    if key.startswith("skipped_"):
        return "Run", f"steps skipped so far, {key.removeprefix('skipped_').replace('_', ' ')}"
    if not key.startswith(_OF_A_TERM):
        return "Losses", key.replace("_", " ")
    term, _, network = key.removeprefix(_OF_A_TERM).rpartition("_")
    return "Gradient norms", f"{term.replace('_', ' ')}, {network}"


def draw(
    series: Series,
    stages: Sequence[float] = (),
    reference: tuple[str, float] | None = None,
    bands: Sequence[Band] = (),
) -> str:
    """One chart.

    Args:
        series: what to draw.
        stages: steps at which a stage ends, marked by upright dashed lines.
        reference: name and value of a level to compare with, a dashed line.
        bands: spans of steps, each up to the next, shaded in turn and named at the bottom.
    """
    points = _thin(series.points)
    values = [value for _, value in points] + ([reference[1]] if reference else [])
    low, high = min(values), max(values)
    margin = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    first, last = min(0.0, points[0][0]), max([points[-1][0], *stages])

    def x(step: float) -> str:
        return f"{LEFT + (WIDTH - LEFT - RIGHT) * (step - first) / ((last - first) or 1):.1f}"

    def y(value: float) -> str:
        return f"{TOP + (HEIGHT - TOP - BOTTOM) * (high + margin - value) / (high - low + 2 * margin):.1f}"

    parts = []
    for number_of, (band, after) in enumerate(pairwise([*bands, Band(last, "")])):
        begin, end = (min(max(step, first), last) for step in (band.step, after.step))
        if begin < end:
            shade = f"{x(begin)}", f"{float(x(end)) - float(x(begin)):.1f}"
            parts.append(
                f'<rect class="band" x="{shade[0]}" width="{shade[1]}" y="{TOP}" height="{HEIGHT - TOP - BOTTOM}" '
                f'opacity="{0.06 + 0.08 * (number_of % 2):.2f}"/>'
                f'<text x="{float(shade[0]) + 2:.1f}" y="{HEIGHT - BOTTOM - 3}">{escape(band.name)}</text>'
            )
    parts += [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v)}" y2="{y(v)}"/>'
        f'<text x="{LEFT - 4}" y="{y(v)}" text-anchor="end" dominant-baseline="middle">{number(v)}</text>'
        for v in dict.fromkeys((low, high))
    ]
    parts += [
        f'<line class="mark" x1="{x(step)}" x2="{x(step)}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        for step in stages
        if first < step < last
    ]
    if reference:
        level = y(reference[1])
        parts.append(
            f'<line class="mark" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level}" y2="{level}"/>'
            f'<text x="{WIDTH - RIGHT}" y="{float(level) - 3:.1f}" text-anchor="end">{escape(reference[0])}</text>'
        )
    path = " ".join(f"{x(step)},{y(value)}" for step, value in points)
    parts.append(f'<polyline class="line" points="{path}"/>')
    dots = points if len(points) <= 40 else points[-1:]
    parts += [
        f'<circle cx="{x(step)}" cy="{y(value)}" r="2.2"><title>step {step:,.0f}: {number(value)}</title></circle>'
        for step, value in dots
    ]
    parts.append(
        f'<text x="{LEFT}" y="{HEIGHT - 3}">{first:,.0f}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{last:,.0f} steps</text>'
    )
    label = escape(series.label)
    return (
        f'<div class="card chart"><p><span>{label}</span><b>{number(series.points[-1][1])}</b></p>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg></div>'
    )


def number(value: float) -> str:
    """A value in four significant digits or so, short enough for an axis."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:.1e}"


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Mean of neighbouring points, so that at most MOST_POINTS are left."""
    size = -(-len(points) // MOST_POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(p[0] for p in g) / len(g), sum(p[1] for p in g) / len(g)) for g in groups]
