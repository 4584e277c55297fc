"""Noise without a generator: a function of a place, which a checkpoint holds as a number."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MIX, _MASK = 0x45D9F3B, 0xFFFFFFFF  # of a mixer of 32-bit words
_APART = 0x9E3779B1  # what sets two places apart


def normal_noise(like: Tensor, place: Tensor, first: int = 0) -> Tensor:
    """Numbers from N(0, 1), a function of a place (int64 scalar) and the row alone, of the shape of `like`; float32.

    A generator's state would be in no checkpoint, and two of them in a resumed run would not agree. `first` is the
    number of the first row: processes that share a batch draw its rows as one process would.
    """
    numbers = 2 * like[:1].numel()
    index = torch.arange(numbers * first, numbers * (first + len(like)), device=like.device) + place * _APART
    for shift in (16, 15, 16):
        index = ((index & _MASK) ^ ((index & _MASK) >> shift)) * _MIX & _MASK
    radius, angle = ((index.double() + 0.5) / 2**32).view(-1, 2).unbind(1)
    drawn: Tensor = (-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()
    return drawn.float().reshape(like.shape)
