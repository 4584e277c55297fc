"""Self-contained HTML galleries: images, tables and curves in one file that needs no network."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from ...data.image_files import to_bytes
from ...system.files import write_text
from .curves import Band, collect, draw, number
from .template import PAGE, SCRIPT, STYLE

Picture: TypeAlias = Tensor | np.ndarray  # float [3, H, W] in [0, 1], or uint8 [H, W, 3]
LONGEST = 960  # pixels of an embedded image's longer side; larger ones are shrunk
QUALITY = 90  # of the embedded JPEGs
RENEWED = 15  # seconds after which the page of a run that goes on is read again


class Panel(NamedTuple):
    """One image of a row; None stands for an image there is not, with the reason as its note."""

    caption: str
    image: Picture | None
    note: str = ""


class Row(NamedTuple):
    """Images that belong together. The reader can filter by name, by the captions, by the outcome and by the score."""

    name: str
    panels: Sequence[Panel]
    scores: Mapping[str, float | tuple[float, float]] = {}
    outcome: str = ""  # what a sweep did with the image
    score: float | None = None  # of its reward


class Comparison(NamedTuple):
    """An image before and after, under one slider. A score is a number, or (before, after)."""

    name: str
    before: Picture
    after: Picture
    scores: Mapping[str, float | tuple[float, float]] = {}


def write_gallery(
    path: str | Path, title: str, *sections: str, subtitle: str = "", progress: tuple[int, int] | None = None
) -> None:
    """Write a page of sections, all or nothing.

    Args:
        path: the HTML file.
        title: heading of the page.
        sections: what `facts`, `figures`, `rows`, `comparisons` and `curves` return, in order.
        subtitle: one line below the heading.
        progress: (done, in all) of a run that goes on: a bar, and the page renews itself in the browser.
    """
    body = "\n".join(section for section in sections if section)
    write_text(path, _page(title, subtitle, body, progress))


def empty_page(title: str, text: str) -> str:
    """A page that says why there is nothing to see."""
    return _page(title, text)


def _page(title: str, subtitle: str, body: str = "", progress: tuple[int, int] | None = None) -> str:
    bar = ""
    if progress is not None:
        done, total = progress
        bar = f'<progress id="progress" value="{done}" max="{max(total, 1)}" data-every="{RENEWED}"></progress>'
    parts = {"title": escape(title), "subtitle": escape(subtitle), "progress": bar, "body": body}
    return PAGE.format(**parts, style=STYLE, script=SCRIPT)


def facts(title: str, values: Mapping[str, Any], text: str = "") -> str:
    """A section of names and values, such as the configuration."""
    pairs = (f"<div><dt>{escape(key)}</dt><dd>{escape(_say(value))}</dd></div>" for key, value in values.items())
    return section(title, text, f'<dl class="card">{"".join(pairs)}</dl>')


def figures(
    title: str,
    table: Mapping[str, Mapping[str, float]],
    tiles: Mapping[str, Any] | None = None,
    text: str = "",
    result: str = "",
) -> str:
    """A section of measured figures.

    Args:
        title: heading.
        table: rows by label, each a figure by column name.
        tiles: a few figures shown large: a value, or (value, what stands beside it, such as "+2.1 dB").
        text: a sentence below the heading.
        result: label of the row that is set in bold, where one is what the others are beside.
    """
    shown = []
    for label, value in (tiles or {}).items():
        value, beside = value if isinstance(value, tuple) else (value, "")
        worse = ' class="worse"' if beside.startswith("-") else ""
        shown.append(
            f'<div class="card tile"><b>{escape(_say(value))}</b><span>{escape(label)}</span> '
            f"<em{worse}>{escape(beside)}</em></div>"
        )
    html = f'<div class="tiles">{"".join(shown)}</div>' if shown else ""
    if table:
        columns = list(next(iter(table.values())))
        head = "".join(f"<th>{escape(name)}</th>" for name in ("", *columns))
        lines = [f"<tr>{head}</tr>"]
        for label, values in table.items():
            cells = "".join(
                f'<td data-name="{escape(name)}">{escape(_figure(name, values[name]))}</td>' for name in columns
            )
            best = ' class="best"' if label == result else ""
            lines.append(f"<tr{best}><td>{escape(label)}</td>{cells}</tr>")
        gap = ' style="margin-top:12px"' if shown else ""
        html += f'<div class="card scroll"{gap}><table>{"".join(lines)}</table></div>'
    return section(title, text, html)


def rows(title: str, items: Iterable[Row], text: str = "") -> str:
    """A section with one card of captioned images per item."""
    cards = []
    for row in items:
        panels = "".join(_panel(panel, row.name) for panel in row.panels)
        data = f' data-outcome="{escape(row.outcome)}"' if row.outcome else ""
        data += f' data-score="{row.score:.6g}"' if row.score is not None else ""
        cards.append(f'<article class="card row"{data}>{_head(row)}<div class="panels">{panels}</div></article>')
    return section(title, text, f'<div class="rows">{"".join(cards)}</div>') if cards else ""


def comparisons(
    title: str, items: Iterable[Comparison], text: str = "", names: tuple[str, str] = ("rainy", "derained")
) -> str:
    """A section of before/after sliders, which the reader can sort by each score's gain.

    Args:
        title: heading.
        items: the images and their scores.
        text: a sentence below the heading.
        names: what to call before and after.
    """
    items = list(items)
    keys = list(dict.fromkeys(key for item in items for key in item.scores))
    cards = [_comparison(i, item, keys, names) for i, item in enumerate(items)]
    choices = "".join(
        f'<option value="-s{k}">{escape(key)}: best first</option>'
        f'<option value="+s{k}">{escape(key)}: worst first</option>'
        for k, key in enumerate(keys)
    )
    bar = f'<p class="bar">order <select><option value="+order">as given</option>{choices}</select></p>' if keys else ""
    return section(title, text, f'{bar}<div class="pairs">{"".join(cards)}</div>') if cards else ""


def curves(
    title: str,
    log: Iterable[Mapping[str, Any]],
    stages: Sequence[float] = (),
    references: Mapping[str, tuple[str, float]] | None = None,
    text: str = "",
    bands: Sequence[Band] = (),
) -> str:
    """A section of charts, one per quantity of a log.

    Args:
        title: heading.
        log: the rows of metrics.jsonl.
        stages: steps at which a stage ends.
        references: per key of the log, the name and value of a level to draw beside it.
        text: a sentence below the heading.
        bands: spans of steps that are shaded, such as the stages of a curriculum.
    """
    html, group = "", None
    for series in collect(log):
        if series.group != group:
            html += f'{"</div>" if group else ""}<h3>{escape(series.group)}</h3><div class="charts">'
            group = series.group
        html += draw(series, stages, (references or {}).get(series.key), bands)
    return section(title, text, html + "</div>") if html else ""


def data_uri(image: Picture, longest: int = LONGEST) -> tuple[str, int, int]:
    """Embed an image as JPEG: its data URI, width and height."""
    picture = Image.fromarray(to_bytes(image))
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    held = io.BytesIO()
    picture.save(held, "JPEG", quality=QUALITY, subsampling=0)  # `optimize` fails on images of noise: Pillow 12.3
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode()}", *picture.size


def section(title: str, text: str, html: str) -> str:
    """A heading, a line of text and what stands below; `html` as it is."""
    lead = f'<p class="lead">{escape(text)}</p>' if text else ""
    return f"<section><h2>{escape(title)}</h2>{lead}{html}</section>"


def _head(item: Row | Comparison) -> str:
    chips = "".join(_chip(key, value) for key, value in item.scores.items())
    if outcome := getattr(item, "outcome", ""):
        chips += f'<span class="chip">last sweep: {escape(outcome)}</span>'
    return f'<header><span class="name">{escape(item.name)}</span>{chips}</header>'


def _chip(key: str, value: float | tuple[float, float]) -> str:
    if isinstance(value, tuple):
        before, after = value
        way = "up" if after > before else "down"
        shown = f'{before:.2f} → {after:.2f} <span class="{way}">{after - before:+.2f}</span>'
    else:
        shown = f"{value:.2f}"
    return f'<span class="chip">{escape(key)} {shown}</span>'


def _image(image: Picture, alt: str, attributes: str = "") -> str:
    uri, width, height = data_uri(image)
    return f'<img src="{uri}" width="{width}" height="{height}" alt="{escape(alt)}"{attributes}>'


def _panel(panel: Panel, name: str) -> str:
    caption = f"<b>{escape(panel.caption)}</b>"
    figure = f'<figure data-kind="{escape(panel.caption)}">'
    if panel.image is None:
        return f'{figure}<div class="absent"><span>{caption}<br>{escape(panel.note)}</span></div></figure>'
    note = f" · {escape(panel.note)}" if panel.note else ""
    return f"{figure}{_image(panel.image, f'{name}: {panel.caption}')}<figcaption>{caption}{note}</figcaption></figure>"


def _comparison(order: int, item: Comparison, keys: Sequence[str], names: tuple[str, str]) -> str:
    data = "".join(f' data-s{k}="{_gain(item.scores.get(key, 0.0)):.6g}"' for k, key in enumerate(keys))
    before, after = (escape(name) for name in names)
    label = escape(f"{item.name}: {names[0]} on the left, {names[1]} on the right")
    return (
        f'<article class="card pair" data-order="{order}"{data}>{_head(item)}<div class="compare">'
        f"{_image(item.before, f'{item.name}: {names[0]}')}"
        f"{_image(item.after, f'{item.name}: {names[1]}', ' class=after')}"
        f"<i>{before}</i><i>{after}</i>"
        f'<input type="range" min="0" max="100" step="0.2" value="50" aria-label="{label}"></div></article>'
    )


def _gain(score: float | tuple[float, float]) -> float:
    """What a comparison is sorted by: the difference of two scores, or the score; worst where there is none."""
    gain = score[1] - score[0] if isinstance(score, tuple) else score
    return gain if math.isfinite(gain) else -1e9


def _say(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, (list, tuple)):
        return " ".join(_say(one) for one in value)
    return "none" if value is None else str(value)


def _figure(name: str, value: Any) -> str:
    if not isinstance(value, (int, float)):
        return _say(value)
    return f"{value:.2f} dB" if "PSNR" in name else f"{value:.4f}"
