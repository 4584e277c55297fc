"""Specialists: four judges that each know one side of good pairs, and reject what is a stranger to them.

Each is a one-class Gaussian, fitted per type of rain to pairs that are trusted. Each sees other faults, so one is
enough to reject; how strict they are together is measured on trusted pairs that the fit did not see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import gammaincc

from .measures import PAIR, SPECIALISTS

CLIP, SHRINKAGE = 6.0, 0.2  # of scaled measures; of their covariance towards the identity
ALIGNMENT, APART = ("likeness where it is dry", "phase at 0", "phase elsewhere", "gradients"), 4.0  # deviations
FOLDS = 5  # each trusted pair is judged by a fit to the others, as an unknown pair is
LEAST = 20  # trusted pairs of a type: fewer say nothing of one in twenty

Measures = Mapping[str, np.ndarray]  # of a pair, for each specialist


class Verdict(NamedTuple):
    """What the specialists say of a pair."""

    p: float  # share of trusted pairs that are stranger, of all four together
    each: dict[str, float]  # the same of each alone
    reason: str  # the specialist and the measure that are farthest out


class Specialist:
    """One side of good pairs as a Gaussian: medians and deviations of the measures, and how they go together."""

    def __init__(self, middle: np.ndarray, spread: np.ndarray, precision: np.ndarray) -> None:
        self.middle, self.spread, self.precision = middle, spread, precision

    @classmethod
    def fit(cls, rows: np.ndarray) -> Specialist:
        """Fit to the measures of trusted pairs, [pairs, measures]."""
        middle = np.median(rows, 0)
        spread = 1.4826 * np.median(np.abs(rows - middle), 0)
        spread = np.maximum(spread, 0.1 * rows.std(0) + 1e-6)  # where most are equal, such as a share of 0
        scaled = np.clip((rows - middle) / spread, -CLIP, CLIP)
        covariance = scaled.T @ scaled / len(scaled)
        mixed = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.eye(len(covariance))
        return cls(middle, spread, np.linalg.inv(mixed))

    def scale(self, row: np.ndarray) -> np.ndarray:
        """Measures in deviations from the median, within six."""
        return np.clip((row - self.middle) / self.spread, -CLIP, CLIP)

    def distance(self, row: np.ndarray) -> float:
        """How strange measures [n] are: the squared Mahalanobis distance."""
        scaled = self.scale(row)
        return float(scaled @ self.precision @ scaled)


class Panel:
    """The specialists of one type of rain, and how strange trusted pairs are to them."""

    def __init__(self, specialists: Mapping[str, Specialist], tails: Mapping[str, np.ndarray], least: np.ndarray):
        self.specialists, self.tails, self.least = specialists, tails, least

    @classmethod
    def fit(cls, pairs: Sequence[Measures], scenes: Sequence[int]) -> Panel:
        """Fit to trusted pairs.

        Args:
            pairs: their measures.
            scenes: a number for each; those of one scene are never on both sides of a fold.
        """
        rows = {name: np.array([pair[name] for pair in pairs]) for name in SPECIALISTS}
        order = {scene: place for place, scene in enumerate(dict.fromkeys(scenes))}
        fold = np.array([order[scene] % FOLDS for scene in scenes])
        distances = {name: np.empty(len(pairs)) for name in SPECIALISTS}
        for name, own in rows.items():
            for held in range(FOLDS):
                if (fold == held).any():
                    judge = Specialist.fit(own[fold != held])
                    distances[name][fold == held] = [judge.distance(row) for row in own[fold == held]]
        tails = {name: _tail(values) for name, values in distances.items()}
        shares = [_stranger(distances[name], tails[name]) for name in SPECIALISTS]
        whole = {name: Specialist.fit(own) for name, own in rows.items()}
        return cls(whole, tails, np.sort(np.min(shares, 0)))

    def judge(self, pair: Measures) -> Verdict:
        """Say how many trusted pairs are stranger.

        The strictest of the four counts, and is measured against the strictest verdicts on trusted pairs: so `p` below
        .05 rejects one in twenty of those, and not four.
        """
        each = {
            name: float(_stranger(one.distance(pair[name]), self.tails[name])) for name, one in self.specialists.items()
        }
        worst = min(each, key=lambda name: each[name])
        together = (1 + np.searchsorted(self.least, each[worst], "right")) / (1 + len(self.least))
        together *= min(each[worst] / self.least[0], 1.0)  # beyond all trusted pairs it falls on
        return Verdict(float(together), each, self._reason(pair, worst, each["pair"] < self.least[0]))

    def _reason(self, pair: Measures, worst: str, apart: bool) -> str:
        """The measure that is farthest out; of images that do not lie on each other that, for all else follows."""
        out = {name: (pair[name] - one.middle) / one.spread for name, one in self.specialists.items()}
        places = [PAIR.index(name) for name in ALIGNMENT if abs(out["pair"][PAIR.index(name)]) >= APART]
        if apart and places:
            worst, place = "pair", max(places, key=lambda place: abs(out["pair"][place]))
        else:
            place = int(np.abs(out[worst]).argmax())
        return f"{worst}: {SPECIALISTS[worst][place]} {out[worst][place]:+.1f}"

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that was fitted, by name."""
        found = {"least": self.least}
        for name, one in self.specialists.items():
            parts = {"middle": one.middle, "spread": one.spread, "precision": one.precision}
            found |= {f"{name}.{part}": value for part, value in parts.items()}
            found[f"{name}.tail"] = self.tails[name]
        return found

    @classmethod
    def from_arrays(cls, found: Mapping[str, Any]) -> Panel:
        """What `arrays` was taken of."""
        parts = ("middle", "spread", "precision")
        own = {name: Specialist(*(found[f"{name}.{part}"] for part in parts)) for name in SPECIALISTS}
        return cls(own, {name: found[f"{name}.tail"] for name in SPECIALISTS}, found["least"])


def _tail(distances: np.ndarray) -> np.ndarray:
    """Shape and scale of the gamma distribution with the mean and the deviation of trusted distances."""
    mean, variance = distances.mean() + 1e-9, distances.var() + 1e-9
    return np.array([mean * mean / variance, variance / mean])


def _stranger(distances: np.ndarray | float, tail: np.ndarray) -> np.ndarray:
    """The share of trusted pairs that are farther out; never 0, so that pairs can be told apart far out as well."""
    return np.maximum(gammaincc(tail[0], np.asarray(distances) / tail[1]), 1e-300)
