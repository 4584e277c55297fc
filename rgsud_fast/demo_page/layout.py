"""The parts of the page, and what each does, in gradio."""

from __future__ import annotations

import sys
import traceback
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ..data.image_files import READABLE
from .uploads import MOST_BYTES, MOST_PIXELS, Refused
from .worker import LAYER, Developed, Stopped, Worker

WAITING = 8  # photographs in the queue; further ones are turned away
FORGET_AFTER = 3600  # seconds that uploads and results stay on disk
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")
MONO = ("ui-monospace", "DejaVu Sans Mono", "monospace")
SIDES = ("photograph", "fixed filter")
FILTER = "min(O, median 1x9), a filter without learning"

CSS = """
.gradio-container, .gradio-container > main { max-width: 1360px !important; width: 100%; margin: 0 auto !important; }
.head h1 { font-size: 26px; margin: 8px 0 0; } .head p { margin: 2px 0 0; opacity: .7; }
.told { padding: 10px 14px; border-radius: 8px; border: 1px solid #c2473a; background: rgba(194, 71, 58, .12); }
.sides { display: flex; justify-content: space-between; font-size: 13px; opacity: .8; margin: -8px 4px 0; }
.figures .scroll { overflow-x: auto; }
.figures table { width: 100%; margin: 0; border-collapse: collapse; font-variant-numeric: tabular-nums; }
.figures table, .figures table * { border: 0 !important; white-space: nowrap; }
.figures th, .figures td { padding: 6px 10px !important; text-align: right; font-size: 14px; }
.figures tr + tr > * { border-top: 1px solid var(--border-color-primary) !important; }
.figures th { font-size: 13px; font-weight: 600; opacity: .75; }
.figures th:first-child, .figures td:first-child { text-align: left; }
.figures tr:last-child td { font-weight: 650; }
.figures p { font-size: 13px; opacity: .75; margin: 8px 0 0; max-width: 90ch; }
.empty { display: grid; place-items: center; min-height: 420px; border-radius: 12px; text-align: center; padding: 24px;
  border: 1px solid var(--border-color-primary); }
.empty p { opacity: .75; margin: 4px 0 0; }
.frame iframe { width: 100%; height: max(480px, calc(100vh - 210px)); border: 0; border-radius: 8px; }
@media (max-width: 640px) { .empty { min-height: 160px; } }
"""

EMPTY = (
    "<div class='empty'><div><b>Nothing derained yet</b><p>Drop a rainy photograph into the box, or click the box. It"
    " is derained on this machine, and shown before and after under a slider.</p>"
    f"<p>{', '.join(sorted(suffix[1:] for suffix in READABLE))}; at most {MOST_PIXELS // 10**6} megapixels and"
    f" {MOST_BYTES // 2**20} MiB</p></div></div>"
)
GALLERY = (
    "<div class='frame'><p><a href='gallery' target='_blank'>Open the gallery in a tab of its own</a></p>"
    "<iframe src='gallery' title='Gallery of the run' sandbox='allow-scripts' loading='lazy'></iframe></div>"
)


def build(worker: Worker, title: str, subtitle: str, score_name: str) -> gr.Blocks:
    """Lay out the page.

    Args:
        worker: what derains.
        title, subtitle: its heading.
        score_name: the score's name, or why there is none.
    """
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(60, FORGET_AFTER)) as page:
        gr.HTML(f"<h1>{escape(title)}</h1><p>{escape(subtitle)}</p>", elem_classes="head")
        with gr.Tab("A photograph"):
            previews = gr.State([])
            with gr.Row():
                with gr.Column(scale=2, min_width=280):
                    upload = gr.File(label="Rainy photograph", file_types=sorted(READABLE), height=150)
                    told = gr.HTML(visible=False)
                    side = gr.Radio(SIDES, value=SIDES[0], label="On the left of the slider", visible=False)
                    download = gr.DownloadButton("Download PNG of full size", visible=False, variant="primary")
                with gr.Column(scale=6, min_width=320):
                    empty = gr.HTML(EMPTY)
                    slider = gr.ImageSlider(
                        show_label=False, visible=False, interactive=False, max_height=620, buttons=["fullscreen"]
                    )
                    legend = gr.HTML(visible=False)
                    figures = gr.HTML(visible=False, elem_classes="figures")
        with gr.Tab("Gallery of the run"):
            gr.HTML(GALLERY)

        outputs = [upload, told, previews, slider, legend, empty, figures, side, download]

        def develop(path: str | None, progress: gr.Progress = gr.Progress()) -> list[Any]:  # noqa: B008, gradio's way
            if path is None:
                return _nothing(None)

            def watch(done: int, total: int) -> None:
                if total > 1:
                    progress((done, total), desc=f"tile {done} of {total}")

            try:
                return _show(worker.develop(Path(path), watch), score_name)
            except Refused as refusal:
                reason = str(refusal)
            except Stopped:
                reason = "The page is being closed."
            except Exception:
                traceback.print_exc(file=sys.stderr)
                reason = "This photograph could not be derained. The terminal of rgsud-fast demo says why."
            return _nothing(f"{Path(path).name}: {reason}")

        def choose(name: str, paths: list[str]) -> Any:
            return ((paths[SIDES.index(name)], paths[-1]), _legend(name)) if paths else (None, "")

        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        upload.upload(develop, upload, outputs, api_visibility="private", show_progress_on=[empty, slider])
        upload.clear(lambda: _nothing(None), None, outputs, **quiet)
        side.input(choose, [side, previews], [slider, legend], **quiet)
    return page.queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)


def _show(photo: Developed, score_name: str) -> list[Any]:
    paths = [str(photo.photograph), str(photo.filtered), str(photo.derained)]
    return [
        gr.update(),
        gr.update(visible=False),
        paths,
        gr.update(value=(paths[0], paths[-1]), visible=True),
        gr.update(value=_legend(SIDES[0]), visible=True),
        gr.update(visible=False),
        gr.update(value=_table(photo, score_name), visible=True),
        gr.update(value=SIDES[0], visible=True),
        gr.update(value=str(photo.result), visible=True),
    ]


def _nothing(refusal: str | None) -> list[Any]:
    """The page without a photograph, and with what is wrong with the one it was given."""
    message = f"<div class='told' role='alert'>{escape(refusal or '')}</div>"
    hidden = gr.update(visible=False)
    return [
        None,
        gr.update(value=message, visible=refusal is not None),
        [],
        gr.update(value=None, visible=False),
        hidden,
        gr.update(visible=True),
        hidden,
        hidden,
        gr.update(value=None, visible=False),
    ]


def _legend(left: str) -> str:
    return f"<div class='sides'><span>{left}</span><span>derained</span></div>"


def _table(photo: Developed, score_name: str) -> str:
    """A row for each image, a column for each figure."""
    names = [f"score: {score_name}" if name == "score" else name for name in photo.figures]
    rows = [f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in ('', *names))}</tr>"]
    for column, image in enumerate((*SIDES, "derained")):
        cells = "".join(f"<td>{_say(name, values[column])}</td>" for name, values in photo.figures.items())
        rows.append(f"<tr><td>{image}</td>{cells}</tr>")
    note = "A higher score is better." if "score" in photo.figures else f"No score is shown: {escape(score_name)}."
    return (
        f"<div class='scroll'><table>{''.join(rows)}</table></div>"
        f"<p>{photo.size[0]:,} x {photo.size[1]:,} pixels. {note}"
        " Rain is bright, grey and thin: the lower the last three figures, the more what was removed looks like rain."
        f" The fixed filter is {FILTER}.</p>"
    )


def _say(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f} %" if name in LAYER else f"{value:.3f}"
