"""Learned rain as training pairs for another network: python examples/pairs_for_another.py RUN CLEAN RAINY [STEPS]."""

import sys
from pathlib import Path

import torch
from torch import nn

import rgsud_fast
from rgsud_fast.data import read_image, to_tensor


def main(run: str, clean: str, rainy: str, steps: str = "1000", side: int = 64) -> None:
    # The rain of the photographs in RAINY is painted onto those in CLEAN: PAIRS/rainy/NAME.png, PAIRS/clean/NAME.png.
    written = rgsud_fast.rain(run, clean, rainy, Path(run) / "pairs")
    pairs = [torch.stack([to_tensor(read_image(path)) for path in pair]) for pair in written]  # [2, 3, H, W] each
    print(f"{len(pairs)} pairs in {Path(run) / 'pairs'}")

    # From here on nothing is of this package: any supervised deraining code reads the two folders.
    network = nn.Sequential(nn.Conv2d(3, 32, 7, padding=3), nn.ReLU(), nn.Conv2d(32, 3, 7, padding=3))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(int(steps)):
        pair = pairs[torch.randint(len(pairs), ())]
        top, left = (int(torch.randint(size - side + 1, ())) for size in pair.shape[2:])
        wet, dry = pair[:, None, :, top : top + side, left : left + side]
        loss = nn.functional.l1_loss(wet + network(wet), dry)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"L1 of the last crop: {loss:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
