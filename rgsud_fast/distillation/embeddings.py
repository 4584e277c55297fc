"""What a photograph is found by: a caption of twelve numbers, visual features, and a small grey version of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..data import to_batch
from .encoders import NONE, Encoders
from .measures import grey
from .type_network import TypeNetwork

SHORTER = 384  # pixels to which larger photographs are shrunk, so that rain of any camera has the size of others
THUMB = 256  # pixels on each side of the grey version
CELLS, WAYS, SHADES = 4, 8, 3  # of the histograms: cells on a side, orientations, parts of a colour's range
CAPTION = (
    *("luma", "contrast", "saturation", "temperature", "sky", "drs", "drd", "nrs", "nrd"),
    *("angle", "streaks", "drops"),
)
VISUAL = 96 + CELLS * CELLS * (WAYS + 3)


class Embedding(NamedTuple):
    """A photograph as retrieval sees it."""

    caption: np.ndarray  # float32 [12], as `CAPTION` names them, not standardised; or of a captioner's words, length 1
    visual: np.ndarray  # float32 [272], two parts of length 1 each; or CLIP's, of length 1
    thumb: np.ndarray  # uint8 [256, 256], luma
    probabilities: np.ndarray  # float32 [4], of the four types
    words: str = ""  # of a captioner


@torch.no_grad()
def embed(
    image: np.ndarray, network: TypeNetwork, device: torch.device | str = "cpu", encoders: Encoders = NONE
) -> Embedding:
    """Describe a photograph.

    Args:
        image: uint8 [H, W, 3].
        network: which tells types of rain apart, on that device.
        device: where to compute.
        encoders: CLIP, and a captioner, in place of numbers of our own.
    """
    shrunk = _shrink(image)
    x = to_batch(shrunk, device)
    luma = grey(x)
    probabilities, features = network.describe(x)
    thumb = Image.fromarray(shrunk).convert("L").resize((THUMB, THUMB), Image.Resampling.BOX)
    words = encoders.captioner.caption(image) if encoders.captioner else ""
    if encoders.clip and encoders.captioner:
        caption = encoders.clip.text(words)
    else:
        caption = torch.stack([*_looks(x, luma), *probabilities, *_weather(luma)])
    if encoders.clip:
        visual = encoders.clip.image(image)
    else:
        histograms = torch.cat([_orientations(luma), _colours(x)])
        visual = torch.cat([F.normalize(features, dim=0), F.normalize(histograms, dim=0)])
    text, looks, chances = (one.float().cpu().numpy() for one in (caption, visual, probabilities))
    return Embedding(text, looks, np.array(thumb), chances, words)


@torch.no_grad()
def type_probabilities(image: np.ndarray, network: TypeNetwork, device: torch.device | str = "cpu") -> np.ndarray:
    """Of the four types, float32 [4]: what `embed` finds of them alone; see there."""
    return network.describe(to_batch(_shrink(image), device))[0].float().cpu().numpy()


def _shrink(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    shorter = min(height, width)
    if shorter <= SHORTER:
        return image
    size = (round(width * SHORTER / shorter), round(height * SHORTER / shorter))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def _looks(x: Tensor, luma: Tensor) -> list[Tensor]:
    """Luma, contrast, saturation, colour temperature, and the share of bright, smooth pixels in the upper half."""
    red, _, blue = x.mean((0, 2, 3))
    upper = luma[..., : luma.shape[-2] // 2, :]
    edges = (upper[..., :, 1:] - upper[..., :, :-1]).abs()
    sky = ((upper[..., :, 1:] > 0.55) & (edges < 0.02)).float().mean()
    saturation = (x.amax(1) - x.amin(1)).mean()
    return [luma.mean(), luma.std(), saturation, ((red + 0.01) / (blue + 0.01)).log(), sky]


def _weather(luma: Tensor) -> list[Tensor]:
    """Main angle of edges from the vertical, share of thin bright pixels, share of softer cells."""
    down, right = _gradient(luma)
    angle = 0.5 * torch.atan2(2 * (down * right).mean(), right.square().mean() - down.square().mean())
    beside = F.avg_pool2d(luma, (1, 9), 1, (0, 4), count_include_pad=False)
    streaks = (luma - beside > 0.03).float().mean()
    energy = F.avg_pool2d(down.square() + right.square(), 16, 16, ceil_mode=True)
    around = F.avg_pool2d(energy, 5, 1, 2, count_include_pad=False)
    return [angle, streaks, (energy < 0.25 * around).float().mean()]


def _orientations(luma: Tensor) -> Tensor:
    """Edge strength by orientation in each of 4 x 4 cells, [128], of length 1."""
    down, right = _gradient(luma)
    strength = (down.square() + right.square()).sqrt()
    place = (torch.atan2(down, right) % torch.pi * (WAYS / torch.pi)).long().clamp(max=WAYS - 1)
    cells = [F.adaptive_avg_pool2d(strength * (place == way), CELLS).flatten() for way in range(WAYS)]
    return F.normalize(torch.cat(cells), dim=0)


def _colours(x: Tensor) -> Tensor:
    """Mean colour of each of 4 x 4 cells about grey, [48], of length 1."""
    return F.normalize((F.adaptive_avg_pool2d(x, CELLS) - 0.5).flatten(), dim=0)


def _gradient(luma: Tensor) -> tuple[Tensor, Tensor]:
    return luma[..., 1:, :-1] - luma[..., :-1, :-1], luma[..., :-1, 1:] - luma[..., :-1, :-1]
