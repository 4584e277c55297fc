"""The reach of a derainer: how far pixels influence one another, and so by how much tiles must overlap.

An image is derained whole, and its left half again by itself: they differ near the cut, where the half misses its
neighbours. With `local` statistics the means inside the network see windows of 1.5 crops in both; `alone` keeps them
global, so that the half's own means are part of the difference; `held` gives the half the means of the whole, and what
is left is the reach of the convolutions. The least overlap is that of a feathered seam which is right to half a level
of 8 bits in 99.9 of 100 pixels.

    python bench/studies/receptive_field.py        # a narrow NAFNet of the paper's depth, trained here on rendered rain
    python bench/studies/receptive_field.py RUN    # the derainer of a run
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from rgsud_fast.data import render_rain, to_tensor
from rgsud_fast.data.demo import TRAINING, near_rain, photograph
from rgsud_fast.networks import PER_CROP, NAFNet, evaluating, local_statistics
from rgsud_fast.networks.derainers.nafnet import NAFBlock
from rgsud_fast.networks.tiles import fade
from rgsud_fast.networks.weights import CROP, load_network, read_metadata
from rgsud_fast.ops import derain_loss
from rgsud_fast.ops.nafblock import compose, global_mean

SIDE = 1024  # of the image, a mosaic of photographs
DISTANCES = (0, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384)
FADES = {"as it is": fade, "smooth": lambda share: share * share * (3 - 2 * share), "linear": lambda share: share}


def main() -> None:
    args = _arguments()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    if args.run is None:
        network, crop = train(NAFNet(width=args.width), args.iterations, args.crop), args.crop
    else:
        network, crop = load_network(args.run), int(read_metadata(args.run).get(CROP, args.crop))
    print(f"reach of the convolutions by the layers: {reach(network)} pixels each way")
    rainy = mosaic(SIDE)
    errors: dict[str, list[Tensor]] = {}
    with evaluating(network):
        with local_statistics(network, int(PER_CROP * crop)):
            errors["local"] = differences(network, network, rainy)
        errors["alone"] = differences(network, network, rainy)
        with means_of(network, rainy):
            errors["held"] = differences(network, network, rainy)
    print("difference from the whole in levels of 8 bits, by distance from the cut: 99.9th percentile (greatest)")
    for name, columns in errors.items():
        shown = (f"{d}: {columns[0][d]:.2f} ({columns[1][d]:.1f})" for d in DISTANCES)
        print(f"{name:>6}  " + "  ".join(shown))
        overlaps = {kind: least_overlap(columns[0], weight) for kind, weight in FADES.items()}
        print(f"{'':>6}  least overlap: {overlaps}")


def reach(network: NAFNet) -> int:
    """The farthest pixel that convolutions can see, in one direction.

    A block's 3x3 sees one pixel of its level; a change of level sees the rest of its square.
    """
    depth = len(network.encoder)
    levels = [*enumerate(network.encoder), (depth, network.middle), *enumerate(reversed(network.decoder))]
    return 2 + sum(len(blocks) << level for level, blocks in levels) + sum(1 << level for level in range(depth)) * 2


def differences(network: nn.Module, alone: nn.Module, rainy: Tensor) -> tuple[Tensor, Tensor]:
    """Of half an image and the whole, by distance from the cut: 99.9th percentile and greatest, in 8-bit levels."""
    half = rainy[..., : SIDE // 2].contiguous()
    error = (network(rainy)[..., : SIDE // 2] - alone(half)).abs().flatten(0, 2) * 255  # [3 H, W / 2]
    error = error.flip(1)  # the cut first
    return error.quantile(0.999, dim=0), error.amax(0)


def least_overlap(error: Tensor, weight: Callable[[Tensor], Tensor]) -> int | None:
    """The least overlap across which two tiles that err by `error` blend to within half a level."""
    for overlap in range(8, len(error), 8):
        across = error[:overlap] * weight((torch.arange(overlap) + 0.5) / overlap)
        if (across + across.flip(0)).max() < 0.5:
            return overlap
    return None


@contextlib.contextmanager
def means_of(network: nn.Module, rainy: Tensor) -> Iterator[None]:
    """Let every block use the mean that it had of a whole image."""
    blocks = [module for module in network.modules() if isinstance(module, NAFBlock)]

    def take(block: NAFBlock, mean: Tensor | None = None) -> None:
        def forward(x: Tensor) -> Tensor:
            if mean is not None:
                return compose(x, block.weights(), lambda u: mean)
            return compose(x, block.weights(), lambda u: kept.append(global_mean(u)) or kept[-1])

        block.forward = forward

    kept: list[Tensor] = []
    for block in blocks:
        take(block)
    network(rainy)
    for block, mean in zip(blocks, kept, strict=True):
        take(block, mean)
    yield
    for block in blocks:
        del block.forward


def train(network: NAFNet, iterations: int, crop: int, batch: int = 2) -> NAFNet:
    """Fit a derainer to rendered rain, supervised: enough for its influence to decay as a trained one's does."""
    rng = np.random.default_rng(0)
    clean = [photograph(file) for file, _ in TRAINING]
    pairs = [(to_tensor(_with_rain(image, rng)), to_tensor(image)) for image in clean for _ in range(4)]
    adam = torch.optim.Adam(network.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, iterations)
    for step in range(iterations):
        crops = []
        for _ in range(batch):
            rainy, target = pairs[rng.integers(len(pairs))]
            top, left = (rng.integers(length - crop + 1) for length in rainy.shape[1:])
            crops.append(torch.stack([image[:, top : top + crop, left : left + crop] for image in (rainy, target)]))
        rainy, target = torch.stack(crops, 1)
        loss = sum(derain_loss(network(rainy), target))
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        schedule.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}/{iterations}: loss {float(loss.detach()):.2f}", flush=True)
    return network


def mosaic(side: int) -> Tensor:
    """Photographs under rendered rain, side by side, [1, 3, side, side]."""
    rng = np.random.default_rng(1)
    photos = [photograph(file) for file, _ in TRAINING]
    least = min(min(photo.shape[:2]) for photo in photos)
    count = -(-side // least)
    rows = [
        np.hstack([photos[(i * count + j) % len(photos)][:least, :least] for j in range(count)]) for i in range(count)
    ]
    return to_tensor(_with_rain(np.vstack(rows)[:side, :side], rng))[None]


def _with_rain(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return render_rain(np.ascontiguousarray(image), near_rain(rng, rng.uniform(-35, 35)), int(rng.integers(1 << 30)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", help="run folder or derainer.safetensors")
    parser.add_argument("--width", type=int, default=8, help="of the network trained here")
    parser.add_argument("--iterations", type=int, default=400, help="of its training")
    parser.add_argument("--crop", type=int, default=64, help="training crop, where the run does not name it")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    return parser.parse_args()


if __name__ == "__main__":
    main()
