"""Using what was trained: derain images, measure against ground truth, synthesise rain."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from .data import write_image
from .device import pick_device
from .errors import UserError
from .metrics import average, evaluate_pair, fixed_filter
from .networks import evaluating
from .ops import rain_residual
from .sources import Images, check_pairs, flat_names, gather, is_single, size_of, targets_of
from .tiles import OVERLAP, TILE, run_tiled
from .weights import RAIN_FROM, find_weights, load_network, read_metadata

Weights: TypeAlias = str | Path | nn.Module
Watch: TypeAlias = Callable[[int, int, str], None]  # images done, images in all, name of the last


def derain(
    weights: Weights,
    images: Images,
    output: str | Path | None = None,
    *,
    device: str = "auto",
    tile: int = TILE,
    overlap: int = OVERLAP,
    watch: Watch | None = None,
) -> Tensor | list[Tensor] | list[Path]:
    """Remove rain from images.

    Args:
        weights: a run folder, its derainer.safetensors, or a network [N, 3, H, W] -> [N, 3, H, W].
        images: float tensor [N, 3, H, W] or [3, H, W] in [0, 1]; uint8 array [H, W, 3]; path of an image, or of a
            folder, searched recursively; or a list of any of these.
        output: where to write: for one image file a file name or a folder, else a folder, which takes the names and
            nesting of the input, as PNG. None returns tensors.
        device: auto, cpu, cuda or cuda:N; auto leaves a given network where it is.
        tile: side in pixels of the tiles of which larger images are made; 0 does every image whole.
        overlap: pixels that neighbouring tiles share.
        watch: called after each image.

    Returns:
        Without `output`, derained images in [0, 1] on the CPU: a tensor of the input's shape ([3, H, W] for an array
        or a file), or a list of them. With `output`, the paths written.

    Raises:
        UserError: weights, image or folder that cannot be used; the message names it. Of several images that are to be
            written, those that can be read are written first.
        ValueError: tensor or array of another shape or type.
    """
    sources = gather(images)
    targets = targets_of(sources, images, Path(output)) if output is not None else []
    network, where = _ready(weights, device)
    done: list[Any] = []
    unreadable: list[str] = []
    with evaluating(network):
        for i, source in enumerate(sources):
            try:
                image = source.load()
            except UserError as error:
                if output is None or len(sources) == 1:
                    raise
                unreadable.append(str(error))
                continue
            derained = _run(network, image, where, tile, overlap).clamp(0, 1)
            if output is None:
                done.append(derained if source.batched else derained[0])
            else:
                for path, image in zip(targets[i], derained, strict=True):
                    write_image(path, image)
                    done.append(path)
            if watch is not None:
                watch(i + 1, len(sources), source.name)
    if unreadable:
        raise UserError(f"{len(done)} images are written, {len(unreadable)} are left out: {'; '.join(unreadable[:5])}")
    return done[0] if output is None and is_single(images) else done


def evaluate(
    weights: Weights,
    rainy: Images,
    clean: Images,
    *,
    device: str = "auto",
    tile: int = TILE,
    overlap: int = OVERLAP,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Measure derained images against their clean versions.

    Args:
        weights, device, tile, overlap, watch: see `derain`.
        rainy: folder (or list) of rainy images.
        clean: folder (or list) of their clean versions; folders are matched by sorted file name.

    Returns:
        Means over images of `psnr_rgb`, `ssim_rgb`, `psnr_y`, `ssim_y` (see `metrics`), the same of the rainy input
        as `input_*` and of the filter without learning as `filter_*`; and `images`, a list of these per image, with
        its `name`.

    Raises:
        UserError: unusable weights or folders, or pairs that do not match; the message names the first.
    """
    inputs, truths = gather(rainy), gather(clean)
    check_pairs(inputs, truths)
    network, where = _ready(weights, device)
    rows = []
    with evaluating(network):
        for i, (source, truth) in enumerate(zip(inputs, truths, strict=True)):
            image, wanted = source.load(), truth.load()
            if image.shape != wanted.shape:
                raise UserError(
                    f"{source.name} is {size_of(image)} pixels and its clean version {truth.name} {size_of(wanted)}:"
                    " a pair must show the same scene at the same size"
                )
            derained = _run(network, image, where, tile, overlap)
            row = evaluate_pair(derained, wanted)
            row |= {f"input_{key}": value for key, value in evaluate_pair(image, wanted).items()}
            row |= {f"filter_{key}": value for key, value in evaluate_pair(fixed_filter(image), wanted).items()}
            rows.append(row)
            if watch is not None:
                watch(i + 1, len(inputs), source.name)
    named = [{"name": source.name, **row} for source, row in zip(inputs, rows, strict=True)]
    return {**average(rows), "images": named}


def rain(
    run: str | Path,
    clean: str | Path,
    rainy: str | Path,
    output: str | Path,
    *,
    device: str = "auto",
    tile: int = TILE,
    overlap: int = OVERLAP,
    seed: int = 0,
    derainer: nn.Module | None = None,
    watch: Watch | None = None,
) -> list[tuple[Path, Path]]:
    """Make pseudo pairs: paint the rain of rainy photographs onto clean ones, to train any derainer with.

    pseudo rainy = G(clean, O - estimate of O) with the run's rain generator G, clamped to [0, 1]. The clean estimate is
    the derainer's where the run came to stage 2, in which G took rain from rewards and derained images, else the
    U-Net's. Each clean image meets one rainy image O, drawn without repetition as long as there are any; where sizes
    differ, both are cut to the largest centred rectangle they share.

    Args:
        run: run folder with generator.safetensors, and derainer.safetensors or unet.safetensors.
        clean: clean image or folder.
        rainy: rainy image or folder, whose rain is taken.
        output: folder; gets rainy/NAME.png and clean/NAME.png, equal names for a pair.
        device, tile, overlap, watch: see `derain`.
        seed: of the draw.
        derainer: the run's derainer, where it is a network of your own, which no file can rebuild.

    Returns:
        The paths written: (rainy, clean) of each pair.

    Raises:
        UserError: missing or wrong weights, a derainer of your own that is needed and not given, or unusable folder or
            image.
    """
    backgrounds, sources = gather(clean), gather(rainy)
    generator, where = _ready(run, device, "generator")
    kind = read_metadata(find_weights(run, "generator")).get(RAIN_FROM, "unet")
    estimator, _ = _ready(derainer if derainer is not None and kind == "derainer" else run, device, kind)

    def paint(both: Tensor) -> Tensor:
        background, source = both[:, :3], both[:, 3:]
        return generator(rain_residual((background, source, estimator(source))))

    names = flat_names([background.name for background in backgrounds])
    written = []
    with evaluating(estimator):
        for i, source in enumerate(_draw(len(sources), len(backgrounds), seed)):
            background, wet = _common(backgrounds[i].load(), sources[source].load())
            painted = _run(paint, torch.cat([background, wet], dim=1), where, tile, overlap)
            pair = (Path(output) / "rainy" / names[i], Path(output) / "clean" / names[i])
            write_image(pair[0], painted[0])
            write_image(pair[1], background[0])
            written.append(pair)
            if watch is not None:
                watch(i + 1, len(backgrounds), names[i])
    return written


def _ready(weights: Weights, device: str, kind: str = "derainer") -> tuple[nn.Module, torch.device]:
    if isinstance(weights, nn.Module):
        parameter = next(weights.parameters(), None)
        if device == "auto":
            return weights, parameter.device if parameter is not None else torch.device("cpu")
        where = pick_device(device)
        return weights.to(where), where
    where = pick_device(device)
    return load_network(weights, kind).to(where), where


def _run(network: Callable[[Tensor], Tensor], images: Tensor, device: torch.device, tile: int, overlap: int) -> Tensor:
    """Apply a network to [N, C, H, W] on the CPU, image by image; a result on the CPU."""
    try:
        return torch.cat([run_tiled(network, image[None].to(device), tile, overlap).cpu() for image in images])
    except torch.cuda.OutOfMemoryError:
        what = f"tiles of {tile} pixels" if tile else "a whole image"
        raise UserError(f"the GPU's memory does not hold {what}: give a smaller --tile") from None


def _draw(sources: int, count: int, seed: int) -> list[int]:
    """Indices of `count` sources in random order, each used once before any is used again."""
    generator, drawn = random.Random(seed), []
    while len(drawn) < count:
        drawn += generator.sample(range(sources), sources)
    return drawn[:count]


def _common(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Cut both images to the largest centred rectangle they share."""
    height, width = (min(x, y) for x, y in zip(a.shape[-2:], b.shape[-2:], strict=True))

    def cut(image: Tensor) -> Tensor:
        top, left = (image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2
        return image[..., top : top + height, left : left + width]

    return cut(a), cut(b)
