"""The reward pool's update: of many derained versions of images keep the best k of each, as bytes."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _backends as backends
from . import _check as check

EMPTY = float("-inf")  # score of a slot that holds nothing


def pool_update(
    arena: Tensor, scores: Tensor, images: Tensor, values: Tensor, places: Tensor, margin: float = 0.0
) -> Tensor:
    """Offer candidates one after another; each takes the slot of its image's worst version where it is better.

    A candidate enters where its score is finite and exceeds the worst slot's by more than `margin`, or the slot is
    empty. Only what stays at the end is rounded to bytes and copied, [H, W, 3].

    Args:
        arena: uint8 [K, B], K slots of all images, one after another. Changed in place.
        scores: float32 [images, K], `EMPTY` where a slot is empty. Changed in place.
        images: candidates, float [M, 3, H, W] in [0, 1].
        values: their scores, float32 [M], higher is better.
        places: int64 [M, 2]: which image a candidate is a version of, and where that image's bytes begin in a slot.
        margin: at least 0.

    Returns:
        Which candidates entered, bool [M]; a later one of the batch may have taken the place of one that did.

    Raises:
        TypeError, ValueError: an argument is not such a tensor; on the CPU also a place that does not exist. On the
            GPU, where nobody waits to look, such a candidate is left out.
    """
    _check(arena, scores, images, values, places, margin)
    images, scores = images.detach(), scores.detach()  # the same memory, which autograd would guard
    impl = backends.choose("pool_update", arena)
    if impl is None and not arena.is_cuda:  # a kernel looks by itself
        _check_places(places, len(scores), arena.shape[1] - images[0].numel())
    if impl is None or impl is backends.COMPILED:
        return reference(arena, scores, images, values, places, margin)
    entered = torch.empty(len(values), dtype=torch.bool, device=arena.device)
    impl.forward(arena, scores, images, values.contiguous(), places.contiguous(), margin, entered)
    return entered


def reference(
    arena: Tensor, scores: Tensor, images: Tensor, values: Tensor, places: Tensor, margin: float = 0.0
) -> Tensor:
    """The definition, in plain PyTorch."""
    pixels = images[0].numel()
    span = torch.arange(pixels, device=arena.device)
    entered = []
    for image, value, (index, offset) in zip(images, values, places, strict=True):
        row = scores.index_select(0, index[None])[0]
        slot = row.argmin()
        worst = row[slot]
        enters = torch.isfinite(value) & (value > worst + torch.where(worst == EMPTY, 0.0, margin))
        new = (image.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).reshape(-1)
        arena[slot, offset + span] = torch.where(enters, new, arena[slot, offset + span])
        scores[index, slot] = torch.where(enters, value, worst)
        entered.append(enters)
    return torch.stack(entered)


def _check(arena: Tensor, scores: Tensor, images: Tensor, values: Tensor, places: Tensor, margin: float) -> None:
    check.image("images", images)
    check.number("margin", margin)
    count, slots = len(images), arena.shape[0] if isinstance(arena, Tensor) and arena.dim() == 2 else 0
    for name, value, dtype, shape in (
        ("arena", arena, torch.uint8, (max(slots, 1), None)),
        ("scores", scores, torch.float32, (None, slots)),
        ("values", values, torch.float32, (count,)),
        ("places", places, torch.int64, (count, 2)),
    ):
        check.tensor(name, value)
        if value.dtype != dtype or value.is_meta:
            raise TypeError(f"{name} must be a tensor of {dtype} with data, got {value.dtype} on {value.device}")
        fits = value.dim() == len(shape) and all(s in (None, n) for s, n in zip(shape, value.shape, strict=False))
        if not fits or value.device != images.device:
            wanted = ["any" if side is None else side for side in shape]
            raise ValueError(f"{name} must be {wanted} on {images.device}, got {list(value.shape)} on {value.device}")
    if images.shape[1] != 3 or not (arena.is_contiguous() and scores.is_contiguous()):
        raise ValueError(f"images must be [M, 3, H, W], got {list(images.shape)}; arena and scores contiguous")


def _check_places(places: Tensor, images: int, last: int) -> None:
    index, offset = places.unbind(1)
    exists = (index >= 0) & (index < images) & (offset >= 0) & (offset <= last)
    if not exists.all():
        raise ValueError(f"candidate {int((~exists).nonzero()[0])} has no place in the pool")
