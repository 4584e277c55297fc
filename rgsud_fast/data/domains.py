"""The images of a run: the rainy and the clean domain, unpaired, and the pairs that validate and train nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..config.rain_types import RainType
from .image_set import ImageSet
from .pairs import PairSet


@dataclass(frozen=True)
class Pair:
    """A rainy image and its clean version."""

    name: str
    rainy: np.ndarray  # uint8 [H, W, 3]
    clean: np.ndarray  # uint8 [H, W, 3]
    kind: RainType | None = None  # where something tells it


@dataclass(frozen=True)
class Domains:
    """What a run trains on, and what it is validated with."""

    rainy: ImageSet
    clean: ImageSet
    val: list[Pair] | None = None
    skipped_pairs: int = 0  # with an image that cannot be used
    pairs: PairSet | None = None  # labelled ones, to train on

    @property
    def unpaired(self) -> bool:
        """Whether rainy and clean are domains of their own, and not the two sides of the labelled pairs."""
        return self.pairs is None or self.rainy is not self.pairs.rainy

    @property
    def skipped(self) -> dict[str, int]:
        """How many images, and validation pairs, were found and cannot be used."""
        return {"rainy": len(self.rainy.skipped), "clean": len(self.clean.skipped), "pairs": self.skipped_pairs}

    def close(self) -> None:
        """The run is over; see `ImageSet.close`."""
        self.rainy.close()
        self.clean.close()
        if self.pairs is not None:
            self.pairs.close()

    def summary(self) -> str:
        """How many images there are, and how many were skipped, for people."""
        skipped = [f"{count} {name}" for name, count in self.skipped.items() if count]
        text = f"{len(self.rainy)} rainy and {len(self.clean)} clean images" if self.unpaired else ""
        if self.pairs is not None:
            text = f"{text} and {self.pairs.summary()}" if text else self.pairs.summary()
        return f"{text} ({' and '.join(skipped)} skipped)" if skipped else text
