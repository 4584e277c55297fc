"""The sizes of derainers from their tensors: blocks are counted by names, the rest is read off shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import count, takewhile
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


def moe_sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The keywords of the `MoENet` whose tensors these are."""
    active, noise, hard_encoder, hard_decoder = tensors["routing"].tolist()
    return nafnet_sizes(tensors) | {
        "experts": len(tensors["encoder_experts.0.bias"]),
        "active": int(active),
        "noise": round(noise, 6),
        "hard_encoder": bool(hard_encoder),
        "hard_decoder": bool(hard_decoder),
    }


def restormer_sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The keywords of the `Restormer` whose tensors these are."""
    norm_bias = "latent.0.norm1.body.bias" in tensors
    return _levels(tensors) | {"refinement": _count(tensors, "refinement"), "norm_bias": norm_bias}


def drsformer_sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The keywords of the `DRSformer` whose tensors these are."""
    experts = any(name.startswith("encoder_level0.") for name in tensors)
    return _levels(tensors) | {"experts": experts, "norm_bias": "latent.0.norm1.body.bias" in tensors}


def nerd_rain_sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The keywords of the `NeRDRain` whose tensors these are."""
    return _levels(tensors, "_small") | {"hidden": len(tensors["INR.imnet.layers.0.bias"])}


def _levels(tensors: Mapping[str, Tensor], name: str = "") -> dict[str, Any]:
    """What every U-net of blocks has: channels, blocks and heads per level, the expansion of its feed-forwards."""
    encoder = takewhile(
        lambda level: f"{level}.0.attn.temperature" in tensors, (f"encoder_level{i}{name}" for i in count(1))
    )
    levels = [*encoder, f"latent{name}"]
    outs = [tensors[f"{level}.0.ffn.project_out.weight"] for level in levels]
    ins = [tensors[f"{level}.0.ffn.project_in.weight"] for level in levels]
    return {
        "dim": len(tensors[f"patch_embed{name}.proj.weight"]),
        "blocks": [_count(tensors, level) for level in levels],
        "heads": [len(tensors[f"{level}.0.attn.temperature"]) for level in levels],
        "expansion": expansion_of([(len(out), len(hidden) // 2) for out, hidden in zip(outs, ins, strict=True)]),
    }


def expansion_of(pairs: list[tuple[int, int]]) -> float:
    """The factor of which (channels, hidden) are all rounded down: 2.66, as published, or the shortest that does.

    Raises:
        ValueError: there is none.
    """
    shortest = (math.ceil(max(h / c for c, h in pairs) * 10**digits) / 10**digits for digits in range(9))
    for factor in (2.66, *shortest):
        if all(int(factor * channels) == hidden for channels, hidden in pairs):
            return factor
    raise ValueError(f"no expansion makes the hidden channels {pairs}")


def _count(tensors: Mapping[str, Tensor], *prefix: str) -> int:
    """How many parts stand behind a prefix of a name."""
    deep = len(prefix)
    places = [name.split(".") for name in tensors]
    return len({place[deep] for place in places if tuple(place[:deep]) == prefix and len(place) > deep})
