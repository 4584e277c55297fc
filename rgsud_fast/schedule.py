"""What changes with the step: the learning rate, and the decay of the moving average."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .config import Config


def learning_rate(config: Config, step: int) -> float:
    """The learning rate of iteration `step`: a stage holds its first one, then follows a cosine to the common last."""
    optim, first = config.optim, config.stage1_iterations
    start, hold, length, done = (
        (optim.learning_rate, optim.hold, first, step)
        if step < first
        else (optim.stage2_learning_rate, optim.stage2_hold, config.stage2_iterations, step - first)
    )
    held = hold * length
    if done < held:
        return start
    swing = 1 + math.cos(math.pi * (done - held) / (length - held))
    return optim.final_learning_rate + 0.5 * (start - optim.final_learning_rate) * swing


def ema_of(decay: float) -> Callable[..., None]:
    """A moving average whose decay warms up as (1 + n) / (10 + n), so that the random start is soon forgotten."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        share = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - share)

    return update
