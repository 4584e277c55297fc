"""The rule that pairs rainy images with clean ones, for validation pairs and for evaluation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from ..errors import UserError

_APART = "_-. (/"  # what sets a scene's name off from the number of its rain: 901_1, 901-1, 901 (1), 901/1


def match_names(rainy: Sequence[str], clean: Sequence[str], rainy_set: str, clean_set: str) -> list[int]:
    """Find the clean image of each rainy one, by names alone.

    Of as many images as there are clean ones, both in the same order, the names may differ throughout (`rain-001.png`
    with `norain-001.png`); but the numbers in them must not, and where any name is in both, endings aside, all must be:
    sorting would else join images of different scenes without a sign. Of more rainy images each is named after its
    clean one (`901_1.jpg` to `901_14.jpg` with `901.jpg`), and no clean one is left.

    Args:
        rainy: names of the rainy images.
        clean: names of the clean ones.
        rainy_set: what the user calls the rainy images, for messages.
        clean_set: the same for the clean ones.

    Returns:
        The place of its clean image for each rainy one.

    Raises:
        UserError: counts or names out of step; the message names the first mismatch.
    """
    if len(rainy) != len(clean):
        places = _several_of_one(rainy, clean)
        if places is None:
            raise UserError(
                f"{rainy_set} has {len(rainy)} images and {clean_set} {len(clean)}: {_first_unmatched(rainy, clean)}; "
                "each rainy image needs its clean version"
            )
        return places
    if (places := _named_after(rainy, clean)) is not None:
        for i, place in enumerate(places):
            if (first := places.index(place)) < i:
                raise UserError(
                    f"{rainy_set}'s {rainy[first]} and {rainy[i]} are both named after {clean_set}'s {clean[place]}; "
                    "give each clean image its own, or those alone that have some"
                )
        return places
    shared = not {_stem(name) for name in rainy}.isdisjoint(_stem(name) for name in clean)
    for i, (one, other, apart) in enumerate(zip(rainy, clean, _numbers_apart(rainy, clean), strict=True)):
        if shared and _stem(one) != _stem(other):
            why = "though other names are in both"
        elif apart and not shared:
            why = "though their numbers differ"
        else:
            continue
        raise UserError(
            f"pair {i + 1} would be {rainy_set}'s {one} with {clean_set}'s {other}, {why}; give both the same images, "
            "under names that sort alike"
        )
    return list(range(len(rainy)))


def _several_of_one(rainy: Sequence[str], clean: Sequence[str]) -> list[int] | None:
    """The clean image that each rainy one is named after; None where one is after none, or a clean one is left."""
    places = _named_after(rainy, clean)
    return places if places is not None and len(set(places)) == len(clean) else None


def _named_after(rainy: Sequence[str], clean: Sequence[str]) -> list[int] | None:
    """The clean image whose name each rainy one's begins with, the longest such; None where one begins with none."""
    by_name = {_stem(name): place for place, name in enumerate(clean)}
    places = []
    for name in map(_stem, rainy):
        ends = [len(name), *(at for at in range(len(name) - 1, 0, -1) if name[at] in _APART)]
        place = next((by_name[name[:end]] for end in ends if name[:end] in by_name), None)
        if place is None:
            return None
        places.append(place)
    return places


def _numbers_apart(rainy: Sequence[str], clean: Sequence[str]) -> list[bool]:
    """For each pair, whether the numbers in its names share none, in the file's name or in a folder's.

    Numbers that every name of a set has, such as a size, tell no images apart and do not count.
    """
    apart = [False] * len(rainy)
    for level in range(1, 1 + min((len(PurePosixPath(name).parts) for name in (*rainy, *clean)), default=0)):
        sides = [[_numbers(PurePosixPath(_stem(name)).parts[-level]) for name in names] for names in (rainy, clean)]
        for numbers in sides if len(rainy) > 1 else ():
            common = set.intersection(*numbers)
            numbers[:] = [some - common for some in numbers]
        for i, (here, there) in enumerate(zip(*sides, strict=True)):
            apart[i] = apart[i] or bool(here and there and here.isdisjoint(there))
    return apart


def _numbers(name: str) -> set[str]:
    return {digits.lstrip("0") for digits in re.findall(r"\d+", name)}


def _first_unmatched(rainy: Sequence[str], clean: Sequence[str]) -> str:
    """Say at which images two sets of unequal length part."""
    for one, other in zip(rainy, clean, strict=False):
        if _stem(one) != _stem(other):
            return f"the first names that differ are {one} and {other}"
    return f"{max(rainy, clean, key=len)[min(len(rainy), len(clean))]} has no partner"


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()
