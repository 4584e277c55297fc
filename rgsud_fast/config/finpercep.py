"""What a fit of FinPercep-RM is asked for, judged before torch is loaded."""

from __future__ import annotations

import math
from pathlib import Path

from ..errors import UserError
from ..system.given import check_seed

DERAINERS = 3  # small ones that are trained before a fit, which learns their faults


def check_fit(
    output: Path,
    size: str,
    clip: str | Path | None,
    minutes: float | None,
    iterations: int | None,
    practised: int,
    seed: int,
) -> None:
    """Demand what a fit of FinPercep-RM can be asked for.

    Args:
        output: file to write.
        size, clip, minutes, iterations, practised, seed: see `inference.fit_finpercep`.

    Raises:
        UserError: a number that cannot be, two lengths, or weights that the size does not take.
    """
    if output.suffix != ".safetensors":
        raise UserError(f"{output}: end the name in .safetensors")
    if minutes is not None and iterations is not None:
        raise UserError("minutes and iterations are both given: give one")
    if (size == "clip") != (clip is not None):
        raise UserError("size clip needs --clip FILE, CLIP's RN50 as open_clip saves it, and no other size takes it")
    if practised < 0:
        raise UserError(f"practised must be at least 0, got {practised}")
    check_seed(seed)
    for name, wanted in (("minutes", minutes), ("iterations", iterations)):
        if wanted is not None and not 0 < wanted < math.inf:
            raise UserError(f"{name} must be more than 0, got {wanted:g}")
