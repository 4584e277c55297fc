"""The picture img/before-after.jpg of a demo run: `rgsud-fast train --preset demo`, `python docs/picture.py RUN`.

The embedded held-out photographs, cut in the middle and not scaled: rainy above, derained by the run below.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import rgsud_fast
from rgsud_fast.data import load_demo, to_tensor
from rgsud_fast.iqa.metrics import psnr

PICTURE = Path(__file__).resolve().parent / "img" / "before-after.jpg"
SIDE, GAP = 330, 6  # pixels


def picture(run: str) -> Image.Image:
    """Two rows of the held-out pairs; prints the PSNR of each, of the whole photograph, before and after."""
    columns = []
    for pair in load_demo().val or []:
        derained = rgsud_fast.derain(run, pair.rainy).permute(1, 2, 0).mul(255).round().byte().numpy()
        before, after = (psnr_of(image, pair.clean) for image in (pair.rainy, derained))
        print(f"{pair.name}: {before:.2f} dB rainy, {after:.2f} dB derained")
        columns.append(np.concatenate([middle(pair.rainy), np.full((GAP, SIDE, 3), 255, np.uint8), middle(derained)]))
    gap = np.full((2 * SIDE + GAP, GAP, 3), 255, np.uint8)
    joined = [part for column in columns for part in (gap, column)][1:]
    return Image.fromarray(np.concatenate(joined, axis=1))


def middle(image: np.ndarray) -> np.ndarray:
    """The middle of a photograph, [SIDE, SIDE, 3]."""
    top, left = ((size - SIDE) // 2 for size in image.shape[:2])
    return image[top : top + SIDE, left : left + SIDE]


def psnr_of(image: np.ndarray, clean: np.ndarray) -> float:
    """PSNR of RGB in dB."""
    return float(psnr(*(to_tensor(one)[None] for one in (image, clean))))


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    picture(sys.argv[1]).save(PICTURE, quality=88, optimize=True)
