"""Small derainers that a fit trains and throws away: what networks get wrong, which no filter shows."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ...config.finpercep import DERAINERS
from ...data import RainStyle, render_rain
from ...data.image_files import to_bytes
from ...networks import NAFNet, evaluating
from ...system.prefetch import Prefetch
from ...system.side_by_side import learn_from, sharing_cores
from ...system.watch import Watch, nobody
from .generated import Triplet, broad_style, crop

ENDS = (1 / 15, 1 / 5, 2 / 5)  # of a fit's iterations, after which one derains: hardly taught, half taught, taught
LONGEST = 5_000  # of what these are shares of
BATCH, SIDE, RATE = 4, 64, 2e-3
SHOWN, MOST = 128, 64  # side of the crops that are derained, and most photographs they are of


def practise(
    clean: Sequence[np.ndarray],
    seed: int,
    iterations: int,
    device: torch.device | str = "cpu",
    derainers: int = DERAINERS,
    watch: Watch = nobody,
) -> list[Triplet]:
    """Train derainers, and derain rain of any kind by them as they learn.

    Args:
        clean: photographs, uint8 [H, W, 3] each.
        seed: of weights, crops and rain. PyTorch's generator of the CPU is not moved.
        iterations: of the fit; a derainer has two fifths of them, 2,000 at most.
        device: where to train.
        derainers: how many.
        watch: told how many iterations are done, of all.

    Returns:
        (clean, rainy, derained), uint8 [128, 128, 3] each: of 64 photographs at most by each derainer at each end.
    """
    where, found = torch.device(device), list[Triplet]()
    ends = [max(round(share * min(iterations, LONGEST)), 1) for share in ENDS]
    for number in range(derainers):
        rng = np.random.default_rng([seed, number, 2])
        network, own, done = _blank(int(rng.integers(2**31))).to(where), broad_style(rng), 0
        parameters = [*network.parameters()]
        optimiser = torch.optim.Adam(parameters, RATE, fused=True)
        # The first knows rain of any kind, the others one of their own, and are asked to remove every other.
        pairs = Prefetch(functools.partial(_pairs, clean, own if number else None, [seed, number, 3]))
        for end in ends:
            with sharing_cores(where), torch.enable_grad():
                for step in range(done, end):
                    learn_from(functools.partial(_loss, network), parameters, *(part.to(where) for part in pairs(step)))
                    optimiser.step()
                    watch(number * ends[-1] + step + 1, derainers * ends[-1])
            done = end
            found += _results(network, clean, rng, where)
        pairs.close()
    return found


def _loss(network: nn.Module, dry: Tensor, wet: Tensor) -> Tensor:
    """Decibels, by which weak derainers learn fast; the sum over a part of a batch."""
    return (network(wet) - dry).square().mean((1, 2, 3)).add(1e-4).log10().sum() / BATCH


def _blank(seed: int) -> NAFNet:
    """A network that is drawn from a seed, without moving PyTorch's generator of the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NAFNet(12, (1, 1), 1, (1, 1))


def _pairs(clean: Sequence[np.ndarray], style: RainStyle | None, seeds: list[int], step: int) -> tuple[Tensor, Tensor]:
    """A step's batch of one kind of rain, of any where none is given: clean and rainy crops, [N, 3, side, side]."""
    rng = np.random.default_rng([*seeds, step])
    style = style or broad_style(rng)
    crops = [crop([clean[int(rng.integers(len(clean)))]], SIDE, rng)[0] for _ in range(BATCH)]
    rainy = [render_rain(one, style, int(rng.integers(2**62))) for one in crops]
    dry, wet = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous() for images in (crops, rainy))
    return dry, wet


@torch.no_grad()
def _results(
    network: nn.Module, clean: Sequence[np.ndarray], rng: np.random.Generator, device: torch.device | str
) -> list[Triplet]:
    found: list[Triplet] = []
    chosen = range(len(clean)) if len(clean) <= MOST else rng.choice(len(clean), MOST, replace=False)
    with evaluating(network):
        for index in chosen:
            (dry,) = crop([clean[int(index)]], SHOWN, rng)
            wet = render_rain(dry, broad_style(rng), int(rng.integers(2**62)))
            made = network(_planes(wet)[None].to(device))[0].clamp(0, 1).cpu()
            found.append((to_bytes(_planes(dry)), to_bytes(_planes(wet)), to_bytes(made)))
    return found


def _planes(image: np.ndarray) -> Tensor:
    """[H, W, 3] -> [3, H, W]."""
    return torch.from_numpy(image).permute(2, 0, 1)
