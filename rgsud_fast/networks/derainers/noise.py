"""Noise without a generator: a function of a place, which a checkpoint holds as a number."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MIX, _MASK = 0x45D9F3B, 0xFFFFFFFF  # of a mixer of 32-bit words
_APART = 0x9E3779B1  # what sets two places apart


def normal_noise(like: Tensor, place: Tensor) -> Tensor:
    """Numbers from N(0, 1), a function of a place alone (int64 scalar), of the shape of `like`; float32.

    A generator's state would be in no checkpoint, and two of them in a resumed run would not agree.
    """
    index = torch.arange(2 * like.numel(), device=like.device) + place * _APART
    for shift in (16, 15, 16):
        index = ((index & _MASK) ^ ((index & _MASK) >> shift)) * _MIX & _MASK
    first, second = ((index.double() + 0.5) / 2**32).chunk(2)
    drawn = (-2 * first.log()).sqrt() * (2 * math.pi * second).cos()
    return drawn.float().reshape(like.shape)
