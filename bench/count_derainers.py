"""Count what two kernels for Restormer's blocks could save of a GPU's memory traffic, without one.

    python bench/count_derainers.py [--batch 8] [--crop 256]

`gated_dconv`: the depthwise 3x3 and gelu(a) b of a feed-forward. `channel_gram`: of an attention the depthwise 3x3 of
q, k and v, the scores of channels and their product with v. Beside the bytes of today, forward and backward in bfloat16
with channels last, stand those of a kernel that keeps its input alone and computes the rest once more. A launch reads
its inputs and writes its outputs once. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

os.environ.pop("TRITON_INTERPRET", None)

import torch
import torch.nn.functional as F
from counting.fake_gpu import DEVICE, fake_gpu, to_fake_gpu
from counting.kernels import recorded_kernels
from counting.recorder import Record, Recorder
from torch import Tensor, nn

from rgsud_fast.networks.derainers.restormer import Restormer
from rgsud_fast.networks.derainers.transformer import Attention, FeedForward, channel_scores, depthwise
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
    """The part of a feed-forward that `gated_dconv` would be, of features [N, 2 h, H, W]."""
    a, b = network.dwconv(x).chunk(2, 1)
    return F.gelu(a) * b


def attend(network: nn.Module, x: Tensor) -> Tensor:
    """The part of an attention that `channel_gram` would be, of features [N, 3 c, H, W]."""
    heads = len(network.temperature)
    q, k, v = (part.unflatten(1, (heads, -1)).flatten(3) for part in network.qkv_dwconv(x).chunk(3, 1))
    return network.mixing(channel_scores(q, k, network.temperature)).to(v.dtype) @ v


def bytes_of(record: Record) -> float:
    """All that it moves."""
    return record.moved(False) + record.moved(True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=256)
    given = parser.parse_args()
    whole = trace(Restormer, lambda network, x: network(x), (given.batch, 3, given.crop, given.crop))
    eager, least, launches = (dict.fromkeys(LEAST, 0.0) for _ in range(3))
    for stage in STAGES:
        side, hidden = given.crop >> stage.level, int(2.66 * stage.channels)
        pieces = {
            "gated_dconv": (partial(FeedForward, stage.channels, hidden, depthwise), gate, 2 * hidden, hidden),
            "channel_gram": (
                *(partial(Attention, stage.channels, stage.heads, depthwise), attend),
                *(3 * stage.channels, stage.channels),
            ),
        }
        for name, (make, run, wide, narrow) in pieces.items():
            record = trace(make, run, (given.batch, wide, side, side))
            eager[name] += stage.blocks * bytes_of(record)
            launches[name] += stage.blocks * record.launches()
            least[name] += stage.blocks * sum(LEAST[name]) * narrow * given.batch * side**2 * HALF
    total = bytes_of(whole)
    print(
        f"Restormer, {given.batch} crops of {given.crop}², forward and backward: {total / GB:.0f} GB in "
        f"{whole.launches():,} launches, {total / BANDWIDTH * 1e3:.0f} ms at 4.8 TB/s.\n"
    )
    print("| part | today, GB | launches | share of the derainer | least kernel, GB | saves of the derainer |")
    print("|---|---|---|---|---|---|")
    for name in LEAST:
        saved = (eager[name] - least[name]) / total
        print(
            f"| `{name}` | {eager[name] / GB:.0f} | {launches[name]:,.0f} | {eager[name] / total:.0%} | "
            f"{least[name] / GB:.1f} | {saved:.0%} |"
        )


if __name__ == "__main__":
    main()
