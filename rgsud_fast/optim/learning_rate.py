"""The schedule of the learning rate."""

from __future__ import annotations

import math

from ..config import Config


def learning_rate(config: Config, step: int, rising: bool = True) -> float:
    """The learning rate of iteration `step`; of judges alone before the first one, which does not rise.

    A stage holds its first one, then follows a cosine to the common last; stage 1 rises to it where there is a warm-up,
    and halves it every so often in place of all that where it is asked for.
    """
    optim, first = config.optim, config.stage1_iterations
    start, hold, length, done = (
        (optim.learning_rate, optim.hold, first, step)
        if step < first
        else (optim.stage2_learning_rate, optim.stage2_hold, config.stage2_iterations, step - first)
    )
    rise = min(1.0, (step + 1) / optim.warmup) if rising and optim.warmup and step < first else 1.0
    if optim.halve_every and step < first:
        return rise * start * 0.5 ** (step // optim.halve_every)
    held = hold * length
    if done < held:
        return rise * start
    swing = 1 + math.cos(math.pi * (done - held) / (length - held))
    return rise * (optim.final_learning_rate + 0.5 * (start - optim.final_learning_rate) * swing)
