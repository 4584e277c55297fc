"""The rule that pairs rainy images with clean ones, for validation pairs and for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from ..errors import UserError


def check_names(rainy: Sequence[str], clean: Sequence[str], rainy_set: str, clean_set: str) -> None:
    """Refuse rainy and clean images that do not match one to one in the given order.

    The names of the two sets may differ throughout (`rain-001.png` with `norain-001.png`); but where any name is in
    both, endings aside, all must be, for sorting would else join images of different scenes without a sign.

    Args:
        rainy: names of the rainy images.
        clean: names of the clean ones.
        rainy_set: what the user calls the rainy images, for messages.
        clean_set: the same for the clean ones.

    Raises:
        UserError: unequal counts, or names out of step; the message names the first mismatch.
    """
    if len(rainy) != len(clean):
        raise UserError(
            f"{rainy_set} has {len(rainy)} images and {clean_set} {len(clean)}: {_first_unmatched(rainy, clean)}; "
            "each rainy image needs its clean version"
        )
    if {_stem(name) for name in rainy}.isdisjoint(_stem(name) for name in clean):
        return
    for i, (one, other) in enumerate(zip(rainy, clean, strict=True)):
        if _stem(one) != _stem(other):
            raise UserError(
                f"pair {i + 1} would be {rainy_set}'s {one} with {clean_set}'s {other}, though other names are in "
                "both; give both the same images, under names that sort alike"
            )


def _first_unmatched(rainy: Sequence[str], clean: Sequence[str]) -> str:
    """Say at which images two sets of unequal length part."""
    for one, other in zip(rainy, clean, strict=False):
        if _stem(one) != _stem(other):
            return f"the first names that differ are {one} and {other}"
    return f"{max(rainy, clean, key=len)[min(len(rainy), len(clean))]} has no partner"


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()
