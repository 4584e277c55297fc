"""The crops of a training step: a pure function of the seed, the step and the slot in the global batch.

Without state, a resumed run sees the same crops as an unbroken one, on any number of ranks: a rank draws its slots.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

Stream = Literal["rainy", "clean", "reals", "layers", "backgrounds", "clean_reals", "places", "pairs", "buffers"]

# Words of the generator's counter and key that keep the streams, and permutations and windows, independent.
_STREAMS = {"rainy": 0, "clean": 1, "reals": 2, "layers": 3, "backgrounds": 4, "clean_reals": 5, "places": 6}
_STREAMS |= {"pairs": 7, "buffers": 8}
_ORDER, _WINDOW, _NUMBER = 0, 1, 2


class Crop(NamedTuple):
    """A square window of one image."""

    index: int  # type: ignore[assignment]  # of the image in its set; hides tuple.index
    top: int  # first row, in pixels
    left: int  # first column, in pixels, before the flip
    flip: bool  # mirrored left to right


def draw(
    seed: int,
    step: int,
    batch: int,
    sizes: Sequence[tuple[int, int]],
    crop: int,
    stream: Stream,
    slots: Iterable[int] | None = None,
) -> list[Crop]:
    """Choose the crops of one step.

    Position p = step * batch + slot of an endless stream shows image perm_e[p mod n], e = p div n, where perm_e is
    the random permutation of epoch e: in every n positions, each of the n images comes once. Window and flip are
    uniform. All randomness is Philox (Salmon et al., SC 2011) in counter mode, read as raw bits, whose values NumPy
    keeps from version to version.

    Args:
        seed: of the run, at least 0.
        step: iterations done before this one.
        batch: images per step, over all ranks.
        sizes: (H, W) of every image of the set.
        crop: side of the window, in pixels.
        stream: rainy or clean images; the rainy ones that only a judge sees, whose rain is pasted, or whose rewards it
            is pasted onto; the clean ones that only a judge sees; independent of one another.
        slots: which places in the global batch to draw; default: all.

    Returns:
        One crop per slot, in the order of `slots`. Where an image is smaller than `crop` the window starts at 0.
    """
    crops = []
    for slot in range(batch) if slots is None else slots:
        position = step * batch + slot
        index = draw_index(seed, position, len(sizes), stream)
        crops.append(draw_window(seed, position, index, sizes[index], crop, stream))
    return crops


def draw_index(seed: int, position: int, count: int, stream: Stream) -> int:
    """The image at a position of an endless stream of `count` images; see `draw`."""
    epoch, place = divmod(position, count)
    return _permutation(seed, stream, epoch, count)[place]


def draw_window(seed: int, position: int, index: int, size: tuple[int, int], crop: int, stream: Stream) -> Crop:
    """The window at a position of a stream, on an image of that size; see `draw`."""
    height, width = size
    top, left, flip = (int(word) for word in _words(seed, stream, _WINDOW, position, 3))
    return Crop(index, _below(top, height - crop + 1), _below(left, width - crop + 1), bool(flip >> 63))


def draw_turn(seed: int, position: int, stream: Stream) -> int:
    """How many quarter turns the crop at a position of a stream makes, 0 to 3."""
    return int(_words(seed, stream, _NUMBER, position, 1)[0]) >> 62


def draw_uniform(
    seed: int, step: int, batch: int, low: float, high: float, stream: Stream, slots: Iterable[int] | None = None
) -> list[float]:
    """A number between `low` and `high` for each slot of a step; see `draw`."""
    positions = (step * batch + slot for slot in (range(batch) if slots is None else slots))
    shares = (int(_words(seed, stream, _NUMBER, position, 1)[0]) / 2**64 for position in positions)
    return [low + (high - low) * share for share in shares]


def draw_places(seed: int, step: int, count: int, bounds: Sequence[int], first: int = 0) -> Tensor:
    """Distinct places of a step, the same for all images and ranks: int64 [bounds, count], each row below its bound.

    A row holds the places of the smallest of so many Philox words, as a random permutation would begin. `first` numbers
    the rows: those of different numbers are independent.

    Raises:
        ValueError: a bound below the count.
    """
    if min(bounds) < count:
        raise ValueError(f"{count} distinct places below {min(bounds)}")
    rows = []
    for row, bound in enumerate(bounds, first):
        words = _words(seed, "places", row, step, bound)
        rows.append(torch.from_numpy(np.argsort(words, kind="stable")[:count].astype(np.int64)))
    return torch.stack(rows)


def draw_exchanges(seed: int, step: int, batch: int, judges: int, places: int, slots: Sequence[int]) -> Tensor:
    """What `optim.fake_buffer.FakeBuffer` needs of each judge and slot, int64 [judges, slots, 2]: of 2, of places."""
    rows = []
    for judge in range(judges):
        words = [_words(seed, "buffers", judge, step * batch + slot, 2) for slot in slots]
        rows.append([(int(use) >> 63, _below(int(place), places)) for use, place in words])
    return torch.tensor(rows, dtype=torch.int64)


def offsets_of(sizes: Sequence[tuple[int, int]]) -> list[int]:
    """Where images of these sizes begin in bytes, [H, W, 3] each, one after another; and where the last one ends."""
    return list(accumulate((height * width * 3 for height, width in sizes), initial=0))


def windows_of(crops: Sequence[Crop], sizes: Sequence[tuple[int, int]], offsets: Sequence[int]) -> Tensor:
    """The crops of one step as `ops.take_crops` wants them: int64 [N, 6]."""
    rows = [(offsets[c.index], *sizes[c.index], c.top, c.left, int(c.flip)) for c in crops]
    return torch.tensor(rows, dtype=torch.int64)


@lru_cache(maxsize=16)
def _permutation(seed: int, stream: Stream, epoch: int, count: int) -> list[int]:
    """The order in which an epoch shows `count` images."""
    return np.argsort(_words(seed, stream, _ORDER, epoch, count), kind="stable").tolist()


def _words(seed: int, stream: Stream, purpose: int, position: int, count: int) -> np.ndarray:
    """`count` uniform 64-bit words. The generator counts in the counter's first word; the others say what for."""
    key = np.array([seed % 2**64, _STREAMS[stream]], dtype=np.uint64)
    counter = np.array([0, position, purpose, 0], dtype=np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)


def _below(word: int, bound: int) -> int:
    """Scale a uniform 64-bit word to 0 ... bound - 1; 0 where there is no choice."""
    return word * max(bound, 1) >> 64


def evenly(count: int, most: int, last: bool = True) -> list[int]:
    """At most `most` of the places 0 ... count - 1, evenly spread and in order, with the last one among them or not."""
    if last:
        return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
    few = min(count, most)
    return [i * count // few for i in range(few)]
