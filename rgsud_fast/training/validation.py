"""Figures on pairs: how near a derainer comes to the truth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..config import Config
from ..data import Pair, to_batch
from ..iqa.metrics import average, by_type, evaluate_pair
from ..networks import PER_CROP, evaluating, local_statistics
from ..networks.tiles import run_tiled
from ..system.distributed import Ranks
from ..system.watch import Watch, nobody, watched


def validate(
    derainer: nn.Module,
    pairs: Sequence[Pair],
    device: torch.device,
    window: int = 0,
    ranks: Ranks | None = None,
    watch: Watch = nobody,
) -> dict[str, float]:
    """Mean PSNR and SSIM, RGB and Y, of a derainer on pairs, whole images, after rounding to 8 bits; by type too.

    `window` is the side of the windows of local statistics, 0 for none. Several ranks share the work, and each gets the
    figures. `watch` is told how many of its pairs a rank has done.
    """
    ranks = ranks or Ranks(device)
    figures = []
    with evaluating(derainer), local_statistics(derainer, window):
        for pair in watched(pairs[ranks.rank :: ranks.count], watch):
            derained = run_tiled(derainer, to_batch(pair.rainy, device)).clamp(0, 1)
            figures.append(evaluate_pair(derained.cpu(), to_batch(pair.clean)))
    rows = [row for some in ranks.all_gather(figures) for row in some]
    kinds = [pair.kind for rank in range(ranks.count) for pair in pairs[rank :: ranks.count]]
    return {**average(rows), **by_type(rows, kinds)}


def derain_whole(derainer: nn.Module, rainy: Tensor, device: torch.device, window: int = 0) -> Tensor:
    """[1, 3, H, W] on the CPU -> derained, clamped, on the CPU; `window` is of local statistics."""
    with evaluating(derainer) as network, local_statistics(network, window):
        return run_tiled(network, rainy.to(device)).clamp(0, 1).cpu()


def window_of(config: Config) -> int:
    """Side of the windows of local statistics in validations; 0 where they are off."""
    return int(PER_CROP * config.crop) if config.val_local_statistics else 0


def sweep_window_of(config: Config) -> int:
    """The same in sweeps."""
    return int(PER_CROP * config.crop) if config.reward.local_statistics else 0
