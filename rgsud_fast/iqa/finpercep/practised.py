"""Small derainers that a fit trains and throws away: what networks get wrong, which no filter shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ...data import RainStyle, render_rain
from ...data.image_files import to_bytes
from ...networks import NAFNet, evaluating
from ...system.watch import Watch, nobody
from .generated import broad_style, crop

DERAINERS = 3  # the first knows rain of any kind, the others one of their own, and are asked to remove every other
ENDS = (100, 300, 900)  # iterations after which one derains: hardly taught, half taught, taught
BATCH, SIDE, RATE = 4, 64, 2e-3
SHOWN = 128  # side of the crops that are derained

Triplet: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]


def practised_results(
    clean: Sequence[np.ndarray],
    seed: int,
    device: torch.device | str = "cpu",
    derainers: int = DERAINERS,
    watch: Watch = nobody,
) -> list[Triplet]:
    """Train derainers, and derain rain of any kind by them as they learn.

    Args:
        clean: photographs, uint8 [H, W, 3] each.
        seed: of weights, crops and rain.
        device: where to train.
        derainers: how many.
        watch: told how many iterations are done, of all.

    Returns:
        (clean, rainy, derained), uint8 [128, 128, 3] each: one per photograph, derainer and end.
    """
    found = []
    for number in range(derainers):
        rng = np.random.default_rng([seed, number])
        network, own, done = _blank(int(rng.integers(2**31))).to(device), broad_style(rng), 0
        optimiser = torch.optim.Adam(network.parameters(), RATE)
        for end in ENDS:
            for step in range(done, end):
                _learn(network, optimiser, _pairs(clean, own if number else broad_style(rng), rng, device))
                watch(number * ENDS[-1] + step + 1, derainers * ENDS[-1])
            done = end
            found += _results(network, clean, rng, device)
    return found


def _blank(seed: int) -> NAFNet:
    """A network that is drawn from a seed, without moving PyTorch's global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NAFNet(12, (1, 1), 1, (1, 1))


def _learn(network: nn.Module, optimiser: torch.optim.Optimizer, pairs: tuple[Tensor, Tensor]) -> None:
    """One iteration on clean and rainy crops; squares in decibels, by which weak ones learn fast."""
    clean, rainy = pairs
    with torch.enable_grad():
        loss = (network(rainy) - clean).square().mean((1, 2, 3)).add(1e-4).log10().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
    optimiser.step()


def _pairs(clean: Sequence[np.ndarray], style: RainStyle, rng: np.random.Generator, device) -> tuple[Tensor, Tensor]:
    """A batch of one kind of rain, [N, 3, side, side] each."""
    crops = [crop([clean[int(rng.integers(len(clean)))]], SIDE, rng)[0] for _ in range(BATCH)]
    rainy = [render_rain(one, style, int(rng.integers(2**62))) for one in crops]
    both = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) for images in (crops, rainy))
    dry, wet = (images.contiguous().to(device) for images in both)
    return dry, wet


@torch.no_grad()
def _results(network: nn.Module, clean: Sequence[np.ndarray], rng: np.random.Generator, device) -> list[Triplet]:
    found = []
    with evaluating(network):
        for image in clean:
            (dry,) = crop([image], SHOWN, rng)
            wet = render_rain(dry, broad_style(rng), int(rng.integers(2**62)))
            shown = torch.from_numpy(wet).permute(2, 0, 1)[None].to(device)
            made = network(shown)[0].clamp(0, 1).cpu()
            found.append((np.rint(dry * 255).astype(np.uint8), np.rint(wet * 255).astype(np.uint8), to_bytes(made)))
    return found
