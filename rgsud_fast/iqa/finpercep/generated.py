"""FGR-Rain: weak deraining results, swapped by regions into clean photographs, with a map of how spoiled each pixel is.

The user's clean photographs are the truth: rain is rendered on them, or painted by a run's generator, and results are
made of it by `FAMILIES`, by small derainers that practise, or by a run's own. Every sample is a function of the seed
and its number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...data import RainStyle, render_rain
from .. import _augment as augment
from .families import FAMILIES
from .masks import draw_mask

DRAWN = 3  # how they are made: a fit that was begun in another way is begun anew
OWN = 1 / 3  # share of a run's own results, where there are any
PRACTISED = 1 / 2  # share, of the rest, of what derainers made that the fit trained and threw away
SCALED, SCALES = 3 / 4, (0.3, 2.2)  # share of that, of which less or more is taken away, and how much
PAINTED = 1 / 2  # share of rain that a run's generator painted, where there is any
TWO = 1 / 4  # share of weak results with the faults of two families
TURNED = 0.4  # share of filters' results whose errors are turned round: too bright becomes too dark, soft too sharp
PIXEL, PIXEL_SCALE, STRUCTURE_SCALE = 0.5, 0.12, 0.8  # of the map's truth: never per image, or faint faults look whole
SOFT, WINDOW = 0.7, 1.5  # sigmas of the two parts, in pixels
C2 = 0.03**2  # of SSIM
UNKNOWN = 0.25  # share of samples whose removed layer is not shown, so that one network scores either way


Triplet: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]  # clean, rainy, and what a derainer made of it
# How far images are apart from clean ones, [N, 3, H, W] twice -> [N, 1, H, W] in [0, 1].
Structure: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Material:
    """What samples are made of; uint8 [H, W, 3] each."""

    clean: Sequence[np.ndarray]
    painted: Sequence[tuple[np.ndarray, np.ndarray]] = ()  # clean, and rainy by a run's generator
    own: Sequence[Triplet] = ()  # by a run's derainer
    practised: Sequence[Triplet] = ()  # by derainers that a fit trains
    families: tuple[str, ...] = tuple(FAMILIES)


class Sample(NamedTuple):
    """One crop, [H, W, 3] float32 in [0, 1] each."""

    clean: np.ndarray
    rainy: np.ndarray
    weak: np.ndarray  # a faulty derained version
    swapped: np.ndarray  # clean, but for a region of the weak one
    seed: int  # of what changes all four alike
    known: bool  # whether the removed layer is shown


class Batch(NamedTuple):
    """What one iteration learns from, [N, 3, side, side] in [0, 1] each, and the maps' truths [N, 1, side, side]."""

    clean: Tensor
    rainy: Tensor
    weak: Tensor
    swapped: Tensor
    weak_truth: Tensor
    swapped_truth: Tensor
    known: Tensor  # [N, 1, 1, 1], 1 where the removed layer is shown


def with_truths_by(batch: Batch, structure: Structure | None) -> Batch:
    """The batch with the maps' truths by another second part, where one is given; see `spoiled_truth`."""
    if structure is None:
        return batch
    weak, swapped = (spoiled_truth(image, batch.clean, structure) for image in (batch.weak, batch.swapped))
    return batch._replace(weak_truth=weak, swapped_truth=swapped)


def draw_batch(material: Material, seed: int, first: int, count: int, side: int) -> Batch:
    """Make samples first ... first + count - 1 of the endless row of this seed.

    Args:
        material: photographs, and the names of the families of faults.
        seed: of the row.
        first: number of the first sample.
        count: how many.
        side: of the crops, in pixels.
    """
    samples = [draw_sample(material, seed, number, side) for number in range(first, first + count)]
    images = []
    for name in ("clean", "rainy", "weak", "swapped"):
        stacked = torch.from_numpy(np.stack([getattr(sample, name) for sample in samples])).permute(0, 3, 1, 2)
        images.append(augment.vary(stacked, torch.Generator().manual_seed(samples[0].seed)))  # all four alike
    clean, rainy, weak, swapped = images
    known = torch.tensor([float(sample.known) for sample in samples])[:, None, None, None]
    truths = spoiled_truth(weak, clean), spoiled_truth(swapped, clean)
    return Batch(clean, rainy, weak, swapped, *truths, known)


def draw_sample(material: Material, seed: int, number: int, side: int) -> Sample:
    """Make one sample; a function of its seed and number alone (Philox, counted by the number)."""
    rng = np.random.Generator(np.random.Philox(key=seed % 2**64, counter=[0, 0, number, 0]))
    if material.own and rng.random() < OWN:
        clean, rainy, weak = crop(material.own[int(rng.integers(len(material.own)))], side, rng)
    elif material.practised and rng.random() < PRACTISED:
        clean, rainy, weak = crop(material.practised[int(rng.integers(len(material.practised)))], side, rng)
        if rng.random() < SCALED:
            weak = np.clip(rainy - rng.uniform(*SCALES) * (rainy - weak), 0, 1).astype(np.float32)
    else:
        clean, rainy = _pair(material, side, rng)
        count = 1 + (rng.random() < TWO)
        chosen = {material.families[int(rng.integers(len(material.families)))]: None for _ in range(count)}
        weak, *more = (np.clip(FAMILIES[name](clean, rainy, rng), 0, 1) for name in chosen)
        for result in more:  # what both change is added up
            weak = np.clip(weak + (result - clean), 0, 1)
        if rng.random() < TURNED:
            weak = np.clip(2 * clean - weak, 0, 1)
        weak = weak.astype(np.float32)
    mask = draw_mask(clean, rainy, rng)
    swapped = (mask * weak + (1 - mask) * clean).astype(np.float32)
    return Sample(clean, rainy, weak, swapped, int(rng.integers(2**62)), bool(rng.random() >= UNKNOWN))


def spoiled_truth(image: Tensor, clean: Tensor, structure: Structure | None = None) -> Tensor:
    """How spoiled each pixel is: half by its difference, half by the structure around it.

    0.5 min(mean over channels of |I - c| / 0.12, 1), blurred with sigma 0.7, + 0.5 min((1 - cs) / 0.8, 1) with cs the
    contrast and structure of SSIM on luma, sigma 1.5. (After FinPercep-RM, whose second part is a network's features.)

    Args:
        image, clean: [N, 3, H, W] in [0, 1].
        structure: takes the place of the second part, such as `features.PatchFeatures`.

    Returns:
        [N, 1, H, W] in [0, 1]; exactly 0 where both are equal.
    """
    pixel = _blur(((image - clean).abs().mean(1, keepdim=True) / PIXEL_SCALE).clamp(max=1), SOFT)
    if structure is not None:
        return PIXEL * pixel + (1 - PIXEL) * structure(image, clean)
    luma = image.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    x, y = ((one * luma).sum(1, keepdim=True) for one in (image, clean))
    mean_x, mean_y, xx, yy, xy = _blur(torch.cat([x, y, x * x, y * y, x * y], 1), WINDOW).split(1, 1)
    covariance = xy - mean_x * mean_y
    variances = (xx - mean_x * mean_x) + (yy - mean_y * mean_y)  # of equal images exactly twice that
    unlike = 1 - (2 * covariance + C2) / (variances + C2)
    return PIXEL * pixel + (1 - PIXEL) * (unlike / STRUCTURE_SCALE).clamp(0, 1)


def broad_style(rng: np.random.Generator) -> RainStyle:
    """A rain of any kind by day."""
    return RainStyle(
        angle=rng.uniform(-35, 35),
        length=rng.uniform(15, 60),
        width=rng.uniform(1.4, 3.8),
        density=rng.uniform(0.02, 0.07),
        brightness=rng.uniform(0.2, 0.45),
        layers=int(rng.integers(1, 4)),
        screen=bool(rng.random() < 1 / 3),
    )


def crop(images: Sequence[np.ndarray], side: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The same random square of images of one size, uint8 [H, W, 3]; mirrored in half of the cases.

    Smaller images are reflected to `side`. Returns float32 [side, side, 3] in [0, 1] each.
    """
    height, width = images[0].shape[:2]
    top, left = int(rng.integers(max(height - side, 0) + 1)), int(rng.integers(max(width - side, 0) + 1))
    flip = rng.random() < 0.5
    cut = []
    for image in images:
        window = np.asarray(image)[top : top + side, left : left + side]
        missing = [(0, side - window.shape[0]), (0, side - window.shape[1]), (0, 0)]
        window = np.pad(window, missing, mode="symmetric") if missing[0][1] or missing[1][1] else window
        cut.append(np.ascontiguousarray(window[:, ::-1] if flip else window).astype(np.float32) / 255)
    return cut


def _pair(material: Material, side: int, rng: np.random.Generator) -> list[np.ndarray]:
    """A clean crop and its rainy version."""
    if material.painted and rng.random() < PAINTED:
        return crop(material.painted[int(rng.integers(len(material.painted)))], side, rng)
    (clean,) = crop([material.clean[int(rng.integers(len(material.clean)))]], side, rng)
    return [clean, render_rain(clean, broad_style(rng), int(rng.integers(2**62)))]


def _blur(image: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur of each channel, borders replicated; [N, C, H, W]."""
    reach = max(round(3 * sigma), 1)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=image.device) / sigma) ** 2)
    taps = (taps / taps.sum()).to(image.dtype)
    channels = image.shape[1]
    x = F.pad(image, (reach, reach, reach, reach), mode="replicate")
    x = F.conv2d(x, taps.reshape(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(x, taps.reshape(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
