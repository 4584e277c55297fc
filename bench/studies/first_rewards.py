"""First rewards, which need no training: how near to the truth each kind comes, on rain rendered over clean images.

    python bench/studies/first_rewards.py --data DIR  # DIR holds clean, and rain100l/val for --rain100l

The masks are three: where the fixed filter takes more than 0.04 of every channel, where `oriented_layer` finds streaks,
and where rain is (which nobody knows). In them pixels are filtered, filled by the median of 50 random fills of their
windows, or by `fill`, their limit. Prints a Markdown table; with --rain100l also of the validation pairs.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from rgsud_fast.data import read_image, to_batch
from rgsud_fast.data.listing import list_images
from rgsud_fast.iqa.metrics import fixed_filter, psnr
from rgsud_fast.rewards.first import REACH, fill, first_reward, oriented_layer

FILTERED, RAIN = 0.04, 0.02  # least light, of white, in the masks of the filter and of the truth
FILLS = 50


def kinds(rainy: Tensor, clean: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Each first reward of an image, [1, 3, H, W]."""
    filtered = fixed_filter(rainy)
    plain = ((rainy - filtered) > FILTERED).all(1, keepdim=True)
    found = oriented_layer(rainy) > 0
    truth = (rainy - clean).mean(1, keepdim=True) > RAIN
    return {
        "rainy image": rainy,
        "`filter`: min(O, median 1 x 9)": first_reward(rainy, "filter"),
        "50 random fills where the filter takes more than 0.04": random_fills(rainy, plain, generator),
        "50 random fills, oriented mask": random_fills(rainy, found, generator),
        "`fills`: their limit, no pixel brighter": first_reward(rainy, "fills"),
        "the filter inside the oriented mask": torch.where(found, filtered, rainy),
        "**`oriented`**": first_reward(rainy),
        "the filter inside the true mask": torch.where(truth, filtered, rainy),
        "`fill` inside the true mask": fill(rainy, truth, filtered),
    }


def random_fills(rainy: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
    """The median of images whose masked pixels each copy an unmasked one of their window; rainy where none is."""
    height, width = rainy.shape[-2:]
    top, left = mask[0, 0].nonzero().unbind(1)
    fills = []
    for _ in range(FILLS):
        values = rainy[0, :, top, left].clone()
        waiting = torch.ones(len(top), dtype=torch.bool)
        for _ in range(8 * (2 * REACH + 1)):  # a draw that meets a masked pixel is drawn again
            offsets = torch.randint(-REACH, REACH + 1, (2, len(top)), generator=generator)
            y, x = top + offsets[0], left + offsets[1]
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
            good = waiting & inside & ~mask[0, 0, y, x]
            values[:, good] = rainy[0][:, y[good], x[good]]
            waiting &= ~good
        fills.append(values)
    filled = rainy.clone()
    filled[0, :, top, left] = torch.stack(fills).median(0).values
    return filled


def images_of(data: Path, rain100l: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of rainy and clean images, [1, 3, H, W]."""
    if rain100l:
        for rainy, clean in zip(
            *(list_images(data / "rain100l/val" / name) for name in ("rainy", "clean")), strict=True
        ):
            yield to_batch(read_image(rainy)), to_batch(read_image(clean))
        return
    from reward_quality import render_data

    for pair in render_data(data).val or []:
        yield to_batch(pair.rainy), to_batch(pair.clean)


def table(data: Path, sets: dict[str, bool], progress: Callable[[str], None]) -> str:
    """One line per kind, one column per set: mean PSNR-RGB, dB."""
    columns: dict[str, dict[str, list[float]]] = {}
    for title, rain100l in sets.items():
        generator, column = torch.Generator().manual_seed(0), columns.setdefault(title, {})
        for rainy, clean in images_of(data, rain100l):
            for name, image in kinds(rainy, clean, generator).items():
                column.setdefault(name, []).append(float(psnr(image, clean)))
            progress(title)
    heads = [f"{title}, {len(next(iter(column.values())))} images" for title, column in columns.items()]
    lines = [f"| first reward, no training | {' | '.join(heads)} |", f"|{'---|' * (1 + len(heads))}"]
    for name in next(iter(columns.values())):
        means = (sum(column[name]) / len(column[name]) for column in columns.values())
        lines.append(f"| {name} | {' | '.join(f'{mean:.2f}' for mean in means)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("RGSUD_DATA"), help="default: $RGSUD_DATA")
    parser.add_argument("--rain100l", action="store_true", help="also on the validation pairs")
    args = parser.parse_args()
    if args.data is None:
        parser.error("give --data, or set RGSUD_DATA")
    sets = {"rendered rain": False} | ({"Rain100L": True} if args.rain100l else {})
    print(table(Path(args.data), sets, lambda title: None))


if __name__ == "__main__":
    main()
