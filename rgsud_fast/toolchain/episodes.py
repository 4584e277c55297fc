"""Patches to repair, each a pure function of the seed, the stream and its number: no state, nothing to save."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..config.toolbox import SEVERITIES, DamageConfig, Severity, ToolConfig
from .damage import damage, jpeg, noise

Stream: TypeAlias = Literal["training", "held out", "gate", "looks", "joint", "reference"]
STREAMS = {name: place for place, name in enumerate(("training", "held out", "gate", "looks", "joint", "reference"))}
_TOOL = 16  # streams of tools begin here
SCALES = (1.0, 1.5, 3.0)  # how many pixels of a photograph make one of a patch
EASY = 50.0  # dB; a patch that is nearly untouched is drawn again
MOST_DRAWS = 20
LEAST = 1e-10  # of a mean squared error, as the authors' code has it

# Ten bands of each of the camera's damages; the levels of a triple count from 1.
BANDS = {
    "blur": [0.5 * i for i in range(11)],
    "noise": [5.0 * i for i in range(11)],
    "jpeg": [100.0, 80, 60, 50, 40, 35, 30, 25, 20, 15, 10],
}
SUMS = {"mild": (9, 11), "moderate": (12, 17), "severe": (18, 20)}  # of k + m + n - 2
# With rain: the share of each range that a severity takes.
SHARES = {"mild": (0.0, 0.4), "moderate": (0.2, 0.8), "severe": (0.6, 1.0)}
_CAMERA = (("blur", 0.3, 2.5), ("noise", 2.0, 30.0), ("jpeg", 90.0, 20.0))  # after rain, from weak to strong
_DARK = 0.25  # of rainy episodes are at night
_ON_LENS = 0.35  # of them show drops instead of streaks
_GOOD_NOISE, _GOOD_JPEG = (0.3, 1.5), (90, 100)  # of a good photograph: sigma of 255, and quality
_LEAST_EXPOSURE, _MOST_GAMMA, _TINT = 0.2, 1.8, 0.1  # of `other_light`; the last: spread of colours in logarithms


@dataclass(frozen=True)
class Episodes:
    """Damaged patches of photographs.

    Attributes:
        photographs: uint8 [H, W, 3] each, of at least `side` pixels.
        seed: of the toolbox.
        side: of a patch.
        config: what patches suffer.
        stream: independent of the others; training and held-out photographs differ besides.
        turns: patches are turned by quarters, too.
        jitter: share of clean patches that get `other_light`.
        undamaged: share of patches that have a good photograph's slight noise and JPEG, and no other damage.
    """

    photographs: Sequence[np.ndarray]
    seed: int
    side: int
    config: DamageConfig
    stream: Stream = "training"
    turns: bool = False
    jitter: float = 0.0
    undamaged: float = 0.0

    def of(self, stream: Stream) -> Episodes:
        """The same of another stream."""
        return replace(self, stream=stream)

    def batch(self, numbers: Iterable[int], severity: Severity | Literal["all"] | None = None) -> tuple[Tensor, Tensor]:
        """The episodes of these numbers.

        Args:
            numbers: which.
            severity: None takes the configuration's; where that is all, they take turns.

        Returns:
            Damaged and clean patches, float32 [N, 3, side, side] each, in [0, 1].
        """
        severity = severity or self.config.severity
        if severity == "all":
            return self.mixed(numbers)
        pairs = [self._episode(number, severity) for number in numbers]
        return stack([damaged for damaged, _ in pairs]), stack([clean for _, clean in pairs])

    def mixed(self, numbers: Iterable[int]) -> tuple[Tensor, Tensor]:
        """As `batch`, the severities in turn."""
        pairs = [self._episode(number, SEVERITIES[number % len(SEVERITIES)]) for number in numbers]
        return stack([damaged for damaged, _ in pairs]), stack([clean for _, clean in pairs])

    def _episode(self, number: int, severity: Severity) -> tuple[np.ndarray, np.ndarray]:
        for draw in range(MOST_DRAWS):
            key = STREAMS[self.stream] + 64 * SEVERITIES.index(severity)
            rng = generator(self.seed, key, number, draw)
            clean = draw_patch(self.photographs, self.side, rng)
            if self.turns:
                clean = np.ascontiguousarray(np.rot90(clean, int(rng.integers(4))))
            if self.jitter and rng.uniform() < self.jitter:
                clean = other_light(clean, rng)
            if self.undamaged and rng.uniform() < self.undamaged:
                damaged = _good(clean, rng)
                break
            damaged = (_rainy if self.config.rain else _camera)(clean, severity, self.config.share, rng)
            if 10 * np.log10(1 / (np.square(damaged - clean).mean() + LEAST)) <= EASY:
                break
        return damaged, clean


def tool_batch(
    photographs: Sequence[np.ndarray],
    seed: int,
    tool: ToolConfig,
    place: int,
    numbers: Iterable[int],
    side: int,
    idle: float = 0.0,
    others: Sequence[ToolConfig] = (),
) -> tuple[Tensor, Tensor]:
    """Patches to train a tool: its own damage, then slight noise and JPEG, which it will meet in chains.

    Where a tool is idle the patch has the damage of another one in place of its own, and that is to stay.

    Args:
        photographs: uint8 [H, W, 3] each.
        seed: of the toolbox.
        tool: its band.
        place: of the tool in its toolbox, an independent stream.
        numbers: which patches.
        side: of a patch.
        idle: share of patches on which the tool has nothing to do.
        others: tools of other damage; with none, an idle patch has none.

    Returns:
        Damaged patches and what is to become of them, float32 [N, 3, side, side] each.
    """
    pairs = []
    for number in numbers:
        rng = generator(seed, _TOOL + place, number)
        clean = draw_patch(photographs, side, rng)
        band: ToolConfig | None = tool
        if idle and rng.uniform() < idle:
            band = others[int(rng.integers(len(others)))] if others else None
        image = clean if band is None else damage(clean, band.damage, rng.uniform(band.low, band.high), rng)
        clean = clean if band is tool else image
        image = jpeg(noise(image, rng.uniform(0, 5), rng), rng.uniform(80, 100))
        pairs.append((image, clean))
    return stack([damaged for damaged, _ in pairs]), stack([clean for _, clean in pairs])


def generator(seed: int, stream: int, number: int, draw: int = 0) -> np.random.Generator:
    """What an episode draws from: Philox in counter mode, as crops do."""
    key = np.array([seed % 2**64, stream], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, number, draw, 0], np.uint64)))


def draw_patch(photographs: Sequence[np.ndarray], side: int, rng: np.random.Generator) -> np.ndarray:
    """A patch of one of the photographs at one of the `SCALES` that it is large enough for, perhaps mirrored."""
    image = photographs[int(rng.integers(len(photographs)))]
    scales = [scale for scale in SCALES if scale * side <= min(image.shape[:2])]
    window = int(side * scales[int(rng.integers(len(scales)))])
    top, left = (int(rng.integers(length - window + 1)) for length in image.shape[:2])
    patch = image[top : top + window, left : left + window]
    if window != side:
        patch = np.asarray(Image.fromarray(patch).resize((side, side), Image.Resampling.BICUBIC))
    if rng.integers(2):
        patch = patch[:, ::-1]
    return to_floats(patch)


def other_light(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A scene as it may look by day: image^gamma * exposure * tint, clipped; ours.

    Few photographs have dark scenes by day, and an agent that saw few takes whatever is dark for the night.

    Args:
        image: float32 [H, W, 3] in [0, 1].
        rng: draws gamma from 1 to 1.8, exposure from 0.2 to 1, evenly in logarithms, and a log-normal tint.

    Returns:
        The same shape, in [0, 1].
    """
    exposure = np.exp(rng.uniform(np.log(_LEAST_EXPOSURE), 0) + rng.normal(0, _TINT, 3))
    return (np.power(image, rng.uniform(1, _MOST_GAMMA)) * exposure).clip(0, 1).astype(np.float32)


def to_floats(image: np.ndarray) -> np.ndarray:
    """float32 in [0, 1]: bytes are divided by 255, once; what is floating point is in [0, 1] already and stays."""
    return image.astype(np.float32) / 255 if image.dtype == np.uint8 else image.astype(np.float32)


def stack(images: Sequence[np.ndarray]) -> Tensor:
    """[H, W, 3] each -> float32 [N, 3, H, W]."""
    return torch.from_numpy(np.stack([to_floats(image) for image in images])).permute(0, 3, 1, 2).contiguous()


@functools.lru_cache
def levels(severity: Severity) -> list[tuple[int, int, int]]:
    """Levels of blur, noise and JPEG, 1 to 10 each, whose k + m + n - 2 lies in the severity's range."""
    low, high = SUMS[severity]
    every = itertools.product(*3 * [range(1, 11)])
    return [(k, m, n) for k, m, n in every if low <= k + m + n - 2 <= high]


def _good(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As a good photograph comes: little is left to gain, and a tool too many costs more."""
    return jpeg(noise(clean, rng.uniform(*_GOOD_NOISE), rng), rng.uniform(*_GOOD_JPEG))


def _camera(clean: np.ndarray, severity: Severity, share: float, rng: np.random.Generator) -> np.ndarray:
    """Blur, then noise, then JPEG."""
    triple = levels(severity)[int(rng.integers(len(levels(severity))))]
    image = clean
    for (kind, edges), level in zip(BANDS.items(), triple, strict=True):
        value = rng.uniform(min(edges[level - 1 : level + 1]), max(edges[level - 1 : level + 1]))
        image = damage(image, kind, value, rng)  # type: ignore[arg-type]  # the names of BANDS are kinds
    return image


def _rainy(clean: np.ndarray, severity: Severity, share: float, rng: np.random.Generator) -> np.ndarray:
    """Night, streaks or drops, and what the camera makes of them, each with that share."""

    def between(weak: float, strong: float) -> float:
        return weak + (strong - weak) * rng.uniform(*SHARES[severity])

    image = clean
    if rng.uniform() < _DARK:
        image = damage(image, "night", between(0.3, 1.0), rng)
    if rng.uniform() < _ON_LENS:
        image = damage(image, "drops", between(0.05, 0.25), rng)
    else:
        image = damage(image, "streaks", between(0.12, 0.55), rng)
    for kind, weak, strong in _CAMERA:
        if rng.uniform() < share:
            image = damage(image, kind, between(weak, strong), rng)  # type: ignore[arg-type]
    return image
