"""The picture img/chains.jpg of a toolbox: `python docs/chains.py BOX`.

Held-out episodes, one a row: the input, what the agent made of it step by step, and the truth, with action and PSNR.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from rgsud_fast.data.image_files import to_bytes
from rgsud_fast.runs.html import Row
from rgsud_fast.toolchain.gallery import chains
from rgsud_fast.toolchain.workshop import open_box

PICTURE = Path(__file__).resolve().parent / "img" / "chains.jpg"
ROWS, SIDE, GAP, LINE = 4, 192, 8, 30  # pixels, but for the first
COLUMNS = 5  # input, three tools, truth


def picture(rows: Sequence[Row]) -> Image.Image:
    """A row of panels for each chain; the truth always stands last."""
    size = COLUMNS * (SIDE + GAP) - GAP, len(rows) * (SIDE + LINE + GAP) - GAP
    page = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(page)
    for y, row in enumerate(rows):
        *made, truth = (panel for panel in row.panels if panel.image is not None and panel.caption != "stop")
        for x, panel in [*enumerate(made), (COLUMNS - 1, truth)]:
            left, top = x * (SIDE + GAP), y * (SIDE + LINE + GAP)
            patch = Image.fromarray(to_bytes(panel.image)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            page.paste(patch, (left, top))
            pen.text((left, top + SIDE + 2), f"{panel.caption}\n{panel.note}", fill="black")
    return page


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    picture(chains(open_box(Path(sys.argv[1])))[0][:ROWS]).save(PICTURE, quality=88, optimize=True)
