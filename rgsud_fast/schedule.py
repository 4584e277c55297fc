"""What changes with the step: the learning rate, and the decay of the moving average."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .config import Config


def learning_rate(config: Config, step: int) -> float:
    """The learning rate of iteration `step`: a cosine from each stage's start to the common end, or constant."""
    optim, first = config.optim, config.stage1_iterations
    start, length, done = (
        (optim.learning_rate, first, step)
        if step < first
        else (optim.stage2_learning_rate, config.stage2_iterations, step - first)
    )
    if optim.schedule == "constant":
        return start
    return optim.final_learning_rate + 0.5 * (start - optim.final_learning_rate) * (
        1 + math.cos(math.pi * done / length)
    )


def ema_of(decay: float) -> Callable[..., None]:
    """A moving average whose decay warms up as (1 + n) / (10 + n), so that the random start is soon forgotten."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        share = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - share)

    return update
