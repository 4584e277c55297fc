"""The picture of finpercep.md, img/finpercep-data.jpg: what FinPercep-RM learns from, of the embedded photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rgsud_fast.data import load_demo
from rgsud_fast.data.image_files import to_bytes
from rgsud_fast.iqa.finpercep.generated import Material, draw_batch
from rgsud_fast.runs.html.heat import heat

PICTURE = Path(__file__).resolve().parent / "img" / "finpercep-data.jpg"
SIDE, SEED = 160, 4
FAMILIES = ("leftover", "ghost", "smooth", "excess")  # a row each


def main() -> None:
    """Columns: clean, rainy, a faulty result and where it is spoiled, a swapped region and where it is spoiled."""
    rows = []
    for number, family in enumerate(FAMILIES):
        batch = draw_batch(Material(load_demo().clean, families=(family,)), SEED, number, 1, SIDE)
        clean, rainy, weak, swapped = (to_bytes(image[0]) for image in batch[:4])
        maps = [heat(image, truth[0, 0].numpy()) for image, truth in ((weak, batch[4]), (swapped, batch[5]))]
        rows.append(np.concatenate([clean, rainy, weak, maps[0], swapped, maps[1]], axis=1))
    Image.fromarray(np.concatenate(rows)).save(PICTURE, quality=85)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
