"""The sizes of derainers from their tensors: blocks are counted by names, the rest is read off shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def nafnet_sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The keywords of the `NAFNet` whose tensors these are."""
    levels = [str(level) for level in range(_count(tensors, "downs"))]
    encoder, decoder = ([_count(tensors, part, level) for level in levels] for part in ("encoder", "decoder"))
    return {
        "width": len(tensors["first.weight"]),
        "encoder": encoder,
        "middle": _count(tensors, "middle"),
        "decoder": decoder,
    }


def _count(tensors: Mapping[str, Tensor], *prefix: str) -> int:
    """How many parts stand behind a prefix of a name."""
    deep = len(prefix)
    places = [name.split(".") for name in tensors]
    return len({place[deep] for place in places if tuple(place[:deep]) == prefix and len(place) > deep})
