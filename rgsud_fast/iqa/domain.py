"""The offline default score: a small classifier that learns what rain is from the user's two unpaired folders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import RemovedLayer
from ..system.watch import Watch, nobody, watched
from . import _augment as augment
from .plausibility import Plausibility
from .scorer import check_images

WIDTHS = (16, 32, 32, 48)
SCALE = 2.0  # of the logit; mixing and spoiled crops soften it, and it must weigh against the penalties
CROP = 96  # pixels; smaller ones often hold no streak
BATCH = 8  # crops per domain and iteration
SPOILED = 4  # spoiled clean crops per iteration
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2


class RainNet(nn.Module):
    """Local evidence for "no rain here": a fully convolutional classifier without normalisation over the batch.

    Its first filters sum to zero, so brightness, which tells scenes apart and not weather, never enters.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS):
        super().__init__()
        first, second, third, last = widths
        self.first = nn.Conv2d(3, first, 5, stride=2)
        self.rest = nn.Sequential(
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(second, third, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(third, last, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(last, 1, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Mean of the local logits of P(clean): [N, 3, H, W] in [0, 1] -> [N]."""
        filters = self.first.weight - self.first.weight.mean((2, 3), keepdim=True)
        detail = F.conv2d(images, 4 * filters, self.first.bias, self.first.stride)  # x 4: about unit variance
        return self.rest(detail).mean((1, 2, 3))


class DomainScorer:
    """Psi = 2 logit of P(clean), less what makes the removed layer implausible as rain (method, section 4)."""

    name = "domain"
    reads_layer = True  # `score` takes it, too

    def __init__(self, network: RainNet, plausibility: Plausibility | None = None):
        self.network = network.eval().requires_grad_(False)
        self.plausibility = plausibility or Plausibility()

    def score(self, images: Tensor, rainy: Tensor | None = None, layer: RemovedLayer | None = None) -> Tensor:
        """Score each image by itself; see `Scorer.score`. Images may be of any size from 32 pixels.

        Args:
            images, rainy: see `Scorer.score`.
            layer: what `removed_layer` says of rainy - images, where the caller knows it already.
        """
        check_images(images, rainy)
        with torch.no_grad():
            # One by one: a convolution may sum in another order in another batch, and a score must not change with it.
            # Channels last: 0.9 of the time on one core at 480 x 320.
            ones = [one[None].float().contiguous(memory_format=torch.channels_last) for one in images]
            scores = SCALE * torch.cat([self.network(one) for one in ones])
            if rainy is not None:
                penalty = self.plausibility.penalty(rainy, images) if layer is None else self.plausibility.of(layer)
                scores = scores - penalty
        return scores

    def state(self) -> dict[str, Tensor]:
        """The classifier's weights, on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}

    @classmethod
    def from_state(cls, state: dict[str, Tensor], device: torch.device | str = "cpu") -> DomainScorer:
        """Rebuild the scorer that `state` was taken of."""
        network = _blank()
        network.load_state_dict(state)
        return cls(network.to(device))


def fit_domain_scorer(
    rainy: Sequence[np.ndarray],
    clean: Sequence[np.ndarray],
    seed: int,
    iterations: int = 300,
    device: torch.device | str = "cpu",
    watch: Watch = nobody,
) -> DomainScorer:
    """Learn to tell the two unpaired domains apart by their rain.

    Both domains pass through the same small random changes of colour, tone, sharpness and noise, so that cameras and
    file formats give little away. Some crops are mixed across the domains with the share of clean as the target
    (mixup, Zhang et al. 2018), so that the logit falls steadily with the amount of rain. Clean crops spoiled by blur
    or noise count as not clean: without them a smoothed image outscores the clean one.

    Args:
        rainy: the rainy photographs, uint8 [H, W, 3] each, any size.
        clean: the clean ones, of other scenes.
        seed: of everything drawn; the same seed gives the same scorer.
        iterations: steps of 8 rainy, 8 clean and 4 spoiled crops of 96 x 96.
        device: where to train and to score.
        watch: told how many steps are done.

    Returns:
        The scorer.
    """
    generator = torch.Generator().manual_seed(seed)
    network = _blank()
    _initialise(network, generator)
    network.to(device)
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=max(iterations, 2))
    with torch.enable_grad():
        for _ in watched(range(iterations), watch):
            crops, target = _draw(rainy, clean, generator)
            logit = network(crops.to(device))
            loss = F.binary_cross_entropy_with_logits(logit, target.to(device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    return DomainScorer(network)


def _draw(
    rainy: Sequence[np.ndarray], clean: Sequence[np.ndarray], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Crops of one iteration, [20, 3, 96, 96], and the P(clean) to learn for each, [20]."""
    wet = augment.vary(augment.crops(rainy, BATCH, CROP, generator), generator)
    dry = augment.vary(augment.crops(clean, BATCH + SPOILED, CROP, generator), generator)
    target = torch.tensor([0.0] * BATCH + [1.0] * BATCH)
    crops, target = augment.mix(torch.cat([wet, dry[:BATCH]]), target, generator)
    spoiled = augment.spoil(dry[BATCH:], generator)
    return torch.cat([crops, spoiled]), torch.cat([target, torch.zeros(SPOILED)])


def _blank() -> RainNet:
    """A network whose making draws nothing from PyTorch's global generator, which a resumed run must find unmoved."""
    with torch.random.fork_rng(devices=[]):
        return RainNet()


def _initialise(network: nn.Module, generator: torch.Generator) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, 0.2, generator=generator)
            nn.init.zeros_(cast(Tensor, layer.bias))
