"""Count what two parts of Restormer's blocks move of a GPU's memory, and could, without one.

    python bench/count_derainers.py [--batch 8] [--crop 256]

`gated_dconv`: the depthwise 3x3 and gelu(a) b of a feed-forward. `channel_gram`: of an attention the depthwise 3x3 of
q, k and v, the scores of channels, and what they make of v with the 1x1 behind it. Counted are the bytes of PyTorch's
operations by autograd, of today's with the op `gated_dconv` and the products of `channel_gram`, and of a kernel that
keeps its input alone and computes the rest once more; forward and backward in bfloat16 with channels last. A launch
reads its inputs and writes its outputs once. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple
from unittest import mock

os.environ.pop("TRITON_INTERPRET", None)

import torch
from counting.fake_gpu import DEVICE, fake_gpu, to_fake_gpu
from counting.kernels import recorded_kernels
from counting.recorder import Record, Recorder
from torch import Tensor, nn

from rgsud_fast.networks.derainers import channel_gram
from rgsud_fast.networks.derainers.restormer import Restormer
from rgsud_fast.networks.derainers.transformer import Attention, FeedForward, channel_scores, depthwise, mix
from rgsud_fast.ops import _backends as backends
from rgsud_fast.ops import use_backend

GB, BANDWIDTH = 1e9, 4.8e12  # bytes a second, of an H200
HALF = 2  # bytes of a bfloat16
# Values that the least kernel moves a pixel, forward and backward. `gated_dconv` by hidden channels: the input of twice
# as many and what it makes; the input, the gradient and the input's. `channel_gram` by channels: the input of thrice
# as many, v again and what it makes; v and the gradient for the scores'; the input, the gradient and the input's.
LEAST = {"gated_dconv": (3, 5), "channel_gram": (5, 9)}


class Stage(NamedTuple):
    """Blocks of one size."""

    blocks: int
    channels: int
    heads: int
    level: int


# Of the published Restormer, refinement and the first decoder level at twice the channels of the first.
STAGES = (
    *(Stage(4, 48, 1, 0), Stage(6, 96, 2, 1), Stage(6, 192, 4, 2), Stage(8, 384, 8, 3)),
    *(Stage(6, 192, 4, 2), Stage(6, 96, 2, 1), Stage(8, 96, 1, 0)),
)


def trace(make: Callable[[], nn.Module], run: Callable[[nn.Module, Tensor], Tensor], shape: tuple[int, ...]) -> Record:
    """What a network does forward and backward on features of that shape."""
    with torch.device("meta"):
        network = make()
    recorder = Recorder()
    with fake_gpu(), use_backend("auto"):
        to_fake_gpu(network)
        inner = shape[1] > 3  # features have a gradient, an image has none
        x = torch.empty(shape, dtype=torch.bfloat16 if inner else torch.float32, device=DEVICE)
        x = x.contiguous(memory_format=torch.channels_last).requires_grad_(inner)
        with recorder, recorded_kernels(recorder, {}):
            with torch.autocast("cuda", torch.bfloat16):
                made = run(network, x)
            made.float().sum().backward()
    return recorder.record


def gate(network: nn.Module, x: Tensor) -> Tensor:
    """The part of a feed-forward that `gated_dconv` is, of features [N, 2 h, H, W]."""
    return network.dwconv(x, "gelu")


def attend(network: nn.Module, x: Tensor) -> Tensor:
    """The part of an attention behind its first 1x1, of features [N, 3 c, H, W]."""
    scores, v = channel_scores(network.qkv_dwconv(x), network.temperature)
    return mix(network.mixing(scores), v, network.project_out.weight)


@contextlib.contextmanager
def by_pytorch() -> Iterator[None]:
    """PyTorch's operations in place of `gated_dconv`'s kernels, and the definition of `channel_gram`."""
    plain = mock.patch.object(channel_gram, "requested_backend", lambda: "reference")
    with mock.patch.dict(backends.KERNELS, gated_dconv={}), mock.patch.dict(backends._resolved, clear=True), plain:
        yield


def bytes_of(record: Record) -> float:
    """All that it moves."""
    return record.moved(False) + record.moved(True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=256)
    given = parser.parse_args()
    whole, plain = (_whole(given.batch, given.crop, way) for way in (contextlib.nullcontext, by_pytorch))
    print(
        f"Restormer, {given.batch} crops of {given.crop}², forward and backward: {_told(whole)}. By PyTorch's "
        f"operations in place of both: {_told(plain)}.\n"
    )
    print("| part | by PyTorch, GB | launches | today, GB | launches | least kernel, GB | saved | left to save |")
    print("|---|---|---|---|---|---|---|---|")
    for name in LEAST:
        parts = [_parts(name, given.batch, given.crop, way) for way in (by_pytorch, contextlib.nullcontext)]
        (before, many), (today, launches) = parts
        least = sum(
            stage.blocks * sum(LEAST[name]) * _sizes(name, stage)[1] * given.batch * (given.crop >> stage.level) ** 2
            for stage in STAGES
        ) * HALF  # fmt: skip
        saved, left = (before - today) / bytes_of(plain), (today - least) / bytes_of(whole)
        print(
            f"| `{name}` | {before / GB:.0f} | {many:,.0f} | {today / GB:.0f} | {launches:,.0f} | {least / GB:.1f} | "
            f"{saved:.0%} | {left:.0%} |"
        )


def _whole(batch: int, crop: int, way: Callable[[], contextlib.AbstractContextManager[None]]) -> Record:
    with way():
        return trace(Restormer, lambda network, x: network(x), (batch, 3, crop, crop))


def _told(record: Record) -> str:
    moved = bytes_of(record)
    return f"{moved / GB:.0f} GB in {record.launches():,} launches, {moved / BANDWIDTH * 1e3:.0f} ms at 4.8 TB/s"


def _sizes(name: str, stage: Stage) -> tuple[int, int]:
    """Channels of the part's input, and the channels by which LEAST counts."""
    hidden = int(2.66 * stage.channels)
    return (2 * hidden, hidden) if name == "gated_dconv" else (3 * stage.channels, stage.channels)


def _parts(
    name: str, batch: int, crop: int, way: Callable[[], contextlib.AbstractContextManager[None]]
) -> tuple[float, float]:
    """Bytes and launches of a part in all blocks."""
    moved = launches = 0.0
    for stage in STAGES:
        wide, narrow = _sizes(name, stage)
        makes: dict[str, Callable[[], nn.Module]] = {
            "gated_dconv": partial(FeedForward, stage.channels, narrow, depthwise),
            "channel_gram": partial(Attention, stage.channels, stage.heads, depthwise),
        }
        with way():
            run = gate if name == "gated_dconv" else attend
            record = trace(makes[name], run, (batch, wide, crop >> stage.level, crop >> stage.level))
        moved += stage.blocks * bytes_of(record)
        launches += stage.blocks * record.launches()
    return moved, launches


if __name__ == "__main__":
    main()
