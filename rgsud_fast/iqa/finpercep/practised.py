"""Small derainers that a fit trains and throws away: what networks get wrong, which no filter shows.

Some learn to take rain away. Others then follow the score itself, as a derainer does whose reward it is: what they come
to is what the score still rewards wrongly, and it learns that too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ...data import RainStyle, render_rain
from ...data.image_files import to_bytes
from ...networks import NAFNet, evaluating
from ...system.watch import Watch, nobody
from .generated import Triplet, broad_style, crop

DERAINERS = 3  # the first knows rain of any kind, the others one of their own, and are asked to remove every other
ENDS = (1 / 15, 1 / 5, 3 / 5)  # of a fit's iterations, after which one derains: hardly taught, half taught, taught
FOLLOWED = ((1e-4, (1 / 50, 2 / 25)), (5e-4, (1 / 100, 1 / 25)))  # learning rates, and ends, of those that follow
BATCH, SIDE, RATE = 4, 64, 2e-3
SHOWN, MOST = 128, 64  # side of the crops that are derained, and most photographs they are of

Reward = Callable[[Tensor, Tensor], Tensor]  # derained and rainy crops [N, 3, H, W] -> [N], differentiable
Weights = dict[str, Tensor]


class Practised(NamedTuple):
    """What was made while derainers learned, and these half taught."""

    results: list[Triplet]
    half_taught: list[Weights]


def practise(
    clean: Sequence[np.ndarray],
    seed: int,
    iterations: int,
    device: torch.device | str = "cpu",
    derainers: int = DERAINERS,
    watch: Watch = nobody,
) -> Practised:
    """Train derainers, and derain rain of any kind by them as they learn.

    Args:
        clean: photographs, uint8 [H, W, 3] each.
        seed: of weights, crops and rain. PyTorch's global generator is not moved.
        iterations: of the fit; a derainer has three fifths of them.
        device: where to train.
        derainers: how many.
        watch: told how many iterations are done, of all.

    Returns:
        (clean, rainy, derained), uint8 [128, 128, 3] each: of 64 photographs at most by each derainer at each end.
    """
    found = Practised([], [])
    ends = [max(round(share * iterations), 1) for share in ENDS]
    for number in range(derainers):
        rng = np.random.default_rng([seed, number])
        network, own, done = _blank(int(rng.integers(2**31))).to(device), broad_style(rng), 0
        optimiser = torch.optim.Adam(network.parameters(), RATE)
        for end in ends:
            for step in range(done, end):
                dry, wet = _pairs(clean, own if number else broad_style(rng), rng, device)
                with torch.enable_grad():  # decibels, by which weak ones learn fast
                    loss = (network(wet) - dry).square().mean((1, 2, 3)).add(1e-4).log10().mean()
                    _descend(optimiser, loss)
                watch(number * ends[-1] + step + 1, derainers * ends[-1])
            done = end
            found.results.extend(_results(network, clean, rng, device))
            if end == ends[1]:
                found.half_taught.append({name: value.clone() for name, value in network.state_dict().items()})
    return found


def follow(
    start: Weights,
    reward: Reward,
    clean: Sequence[np.ndarray],
    seed: Sequence[int],
    iterations: int,
    device: torch.device | str = "cpu",
) -> list[Triplet]:
    """Let a derainer follow a reward alone, max(1 - R, 0), and derain by it on the way.

    Args:
        start: of a half-taught one.
        reward: R.
        clean, iterations, device: see `practise`.
        seed: numbers that crops and rain follow from.

    Returns:
        As `practise`, of each learning rate and end.
    """
    rng, found = np.random.default_rng(seed), []
    for rate, shares in FOLLOWED:
        network, done = _blank(0).to(device), 0
        network.load_state_dict(start)
        optimiser = torch.optim.Adam(network.parameters(), rate)
        for share in shares:
            end = max(round(share * iterations), 1)
            for _ in range(done, end):
                _, wet = _pairs(clean, broad_style(rng), rng, device)
                with torch.enable_grad():
                    _descend(optimiser, torch.relu(1 - reward(network(wet).clamp(0, 1), wet)).mean())
            done = end
            found += _results(network, clean, rng, device)
    return found


def _blank(seed: int) -> NAFNet:
    """A network that is drawn from a seed, without moving PyTorch's global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NAFNet(12, (1, 1), 1, (1, 1))


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


def _pairs(
    clean: Sequence[np.ndarray], style: RainStyle, rng: np.random.Generator, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """A batch of one kind of rain: clean and rainy crops, [N, 3, side, side] each."""
    crops = [crop([clean[int(rng.integers(len(clean)))]], SIDE, rng)[0] for _ in range(BATCH)]
    rainy = [render_rain(one, style, int(rng.integers(2**62))) for one in crops]
    dry, wet = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous() for images in (crops, rainy))
    return dry.to(device), wet.to(device)


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
            made = network(torch.from_numpy(wet).permute(2, 0, 1)[None].to(device))[0].clamp(0, 1).cpu()
            found.append((_bytes(dry), _bytes(wet), to_bytes(made)))
    return found


def _bytes(image: np.ndarray) -> np.ndarray:
    return np.rint(image * 255).astype(np.uint8)
