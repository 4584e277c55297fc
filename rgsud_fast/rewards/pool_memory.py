"""The memory of a reward pool: on the device up to a budget, then on the host, then in a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..ops.pool_update import EMPTY
from ..system.files import NO_MAPS, naming

SHARE = 0.25  # of a GPU's free memory, and of the host's, that a pool may take by default


@dataclass
class Tier:
    """A run of images whose versions lie in one memory."""

    first: int  # image
    last: int  # the image after the last one
    base: int  # where the first one begins in the bytes of the whole set
    arena: Tensor  # uint8 [keep, bytes]
    scores: Tensor | None  # float32 [last - first, keep] on the host, where the arena is not on the pool's device
    kind: str  # "device", "host" or "file"


def lay_out(
    offsets: Sequence[int],
    keep: int,
    device: torch.device,
    device_bytes: int | None = None,
    host_bytes: int | None = None,
    file: Path | None = None,
) -> list[Tier]:
    """Give each image a place, in order: the device first, then host memory (for a GPU), then a mapped file.

    Args:
        offsets: where each image begins in the bytes of the set, and where the last one ends.
        keep: versions per image.
        device: where the networks are. For the CPU, "device" is its memory and there is no other host memory.
        device_bytes: most that may be taken there; None: a quarter of what is free on a GPU, or on a CPU's host.
        host_bytes: most of the host's memory; None: a quarter of what is free.
        file: of what fits neither; made anew. None: such a pool is an error.

    Raises:
        UserError: the budgets do not hold the pool and there is no file.
    """
    device_bytes = _free(device) if device_bytes is None else device_bytes
    host_bytes = _free(torch.device("cpu")) if host_bytes is None else host_bytes
    rooms = [("device", device_bytes), ("host", host_bytes if device.type == "cuda" else 0), ("file", None)]
    tiers, first, images = [], 0, len(offsets) - 1
    for kind, room in rooms:
        last = first
        while last < images and (room is None or keep * (offsets[last + 1] - offsets[first]) <= room):
            last += 1
        if last > first:
            size = (keep, offsets[last] - offsets[first])
            tiers.append(_tier(kind, first, last, offsets[first], size, device, file))
        first = last
    return tiers


def copy_bytes(source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    """Copy arenas that follow one another to others that follow one another, cut elsewhere; [keep, bytes] each."""
    starts = [0, 0]
    for arena in source:
        begin = starts[0]
        starts[0] += arena.shape[1]
        at = 0
        for other in target:
            low, high = max(begin, at), min(starts[0], at + other.shape[1])
            if low < high:
                other[:, low - at : high - at].copy_(arena[:, low - begin : high - begin])
            at += other.shape[1]


def _tier(
    kind: str, first: int, last: int, base: int, size: tuple[int, int], device: torch.device, file: Path | None
) -> Tier:
    if kind == "device":
        return Tier(first, last, base, torch.zeros(size, dtype=torch.uint8, device=device), None, kind)
    if kind == "host":
        # Not pinned: crops are cut there and only they are copied, and a pinned block takes up to twice its size.
        arena = torch.zeros(size, dtype=torch.uint8)
    else:
        if file is None:
            gib = size[0] * size[1] / 2**30
            raise UserError(f"the reward pool lacks {gib:.1f} GiB: raise reward.pool_device_gib or pool_host_gib")
        with naming(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                arena = torch.from_numpy(np.memmap(file, np.uint8, "w+", shape=size))
            except OSError as error:
                if error.errno not in NO_MAPS:
                    raise
                raise UserError(
                    f"{file}: this disk maps no files, in which rewards lie that memory does not hold; put the "
                    "run on another one with --out, or raise reward.pool_device_gib or pool_host_gib"
                ) from None
            if hasattr(os, "posix_fallocate"):  # a full disk is an error here and would kill the process later
                with open(file, "rb+") as reserved:
                    os.posix_fallocate(reserved.fileno(), 0, size[0] * size[1])
    return Tier(first, last, base, arena, torch.full((last - first, size[0]), EMPTY), kind)


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        return int(SHARE * torch.cuda.mem_get_info(device)[0])
    try:
        return int(SHARE * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):  # no such count on this system
        return 2**31
