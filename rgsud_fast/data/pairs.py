"""Labelled pairs to train on: both images of each, their types of rain and weights, and those that are held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..config.rain_types import RAIN_TYPES, UNKNOWN, RainType
from .image_set import ImageSet
from .sampler import Crop, draw_index, draw_turn, draw_window, evenly

MOST_HELD_OUT = 64  # scenes of a type, and pairs of it that are measured
MEASURED = 512  # most of a side of what the errors of the rainy images are measured on, in pixels
KINDS: tuple[RainType, ...] = tuple(RAIN_TYPES)


class PairCrop(NamedTuple):
    """The same window of both images of a pair, to be turned by so many quarters."""

    pair: int
    rainy: Crop
    clean: Crop
    turn: int


@dataclass(frozen=True)
class PairSet:
    """Labelled pairs. Several rainy images may have one clean version."""

    rainy: ImageSet
    clean: ImageSet
    places: list[tuple[int, int]]  # of each pair's images in both sets
    kinds: list[int]  # places in RAIN_TYPES, or UNKNOWN
    weights: list[float]
    held_out: list[int]  # pairs that no step sees

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def training(self) -> list[int]:
        """The pairs that steps draw from."""
        held = set(self.held_out)
        return [i for i in range(len(self)) if i not in held]

    @cached_property
    def by_type(self) -> dict[int, list[int]]:
        """The pairs that steps draw from, by type; UNKNOWN, where some are, comes first."""
        kinds = sorted({self.kinds[i] for i in self.training})
        return {kind: [i for i in self.training if self.kinds[i] == kind] for kind in kinds}

    def floors(self, share: float, least: float) -> dict[int, float]:
        """By type the squared error below which a loss asks for no more: that share of `squared_errors`, or `least`."""
        if not share:
            return dict.fromkeys(self.by_type, least)
        return {kind: max(share * error, least) for kind, error in self.squared_errors().items()}

    def squared_errors(self) -> dict[int, float]:
        """Mean squared error of the rainy images of each type that steps draw from, in [0, 1].

        It is that of the middles of at most 64 pairs, [H, W] up to 512 x 512 each.
        """
        found = {}
        for kind, own in self.by_type.items():
            some = [own[i] for i in evenly(len(own), MOST_HELD_OUT)]
            found[kind] = sum(map(self._squared_error, some)) / len(some)
        return found

    def _squared_error(self, pair: int) -> float:
        rainy, clean = (
            middle_of(images[place], MEASURED).astype(np.float64)
            for images, place in zip((self.rainy, self.clean), self.places[pair], strict=True)
        )
        return float(np.square((rainy - clean) / 255).mean())

    def kind_of(self, pair: int) -> RainType | None:
        """The name of a pair's type."""
        return None if self.kinds[pair] == UNKNOWN else KINDS[self.kinds[pair]]

    def draw(
        self, seed: int, step: int, batch: int, crop: int, balance: str, slots: Iterable[int] | None = None
    ) -> list[PairCrop]:
        """The crops of a step: for every slot a pair, a window with its flip, and quarter turns.

        Args:
            seed, step, batch, crop, slots: see `sampler.draw`.
            balance: "natural": each pair comes as often; "equal": types take turns, whatever their number.
        """
        drawn = []
        for slot in range(batch) if slots is None else slots:
            position = step * batch + slot
            members, place = self.training, position
            if balance == "equal":
                place, kind = divmod(position, len(self.by_type))
                members = list(self.by_type.values())[kind]
            pair = members[draw_index(seed, place, len(members), "pairs")]
            rainy, clean = self.places[pair]
            window = draw_window(seed, position, rainy, self.rainy.sizes[rainy], crop, "pairs")
            drawn.append(PairCrop(pair, window, window._replace(index=clean), draw_turn(seed, position, "pairs")))
        return drawn

    def summary(self) -> str:
        """How many there are of each type, for people."""
        counts = Counter(self.kind_of(pair) for pair in range(len(self)))
        told = ", ".join(f"{counts[kind]} {kind or 'of unknown type'}" for kind in (*KINDS, None) if counts[kind])
        return f"{len(self)} labelled pairs ({told}; {len(self.held_out)} of them held out)"

    def close(self) -> None:
        """The run is over; see `ImageSet.close`."""
        self.rainy.close()
        self.clean.close()


def middle_of(image: np.ndarray, side: int) -> np.ndarray:
    """The middle of an image [H, W, ...], at most `side` pixels on each side; a view."""
    top, left = (max(length - side, 0) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def hold_out(kinds: Sequence[int], scenes: Sequence[str], share: float) -> list[int]:
    """The pairs to hold out: of each type that share of its scenes, at least one and at most 64 of them, whole.

    A scene that is held out in one type is in all, as sets that render several rains on one photograph need. A type of
    one scene is trained on.

    Args:
        kinds: type of each pair.
        scenes: what each shows, such as the name of its clean image.
        share: 0 holds out none.
    """
    if share <= 0:
        return []
    held: set[str] = set()
    for kind in sorted(set(kinds)):
        own = list(dict.fromkeys(scene for scene, other in zip(scenes, kinds, strict=True) if other == kind))
        free = [scene for scene in own if scene not in held]
        wanted = min(max(round(share * len(own)), 1), MOST_HELD_OUT) - (len(own) - len(free))
        wanted = min(wanted, len(free) - 1)
        held |= {free[i] for i in evenly(len(free), wanted, last=False)} if wanted > 0 else set()
    return [i for i, scene in enumerate(scenes) if scene in held]
