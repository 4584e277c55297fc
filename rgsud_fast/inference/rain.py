"""Pseudo pairs: rain of rainy photographs, painted onto clean ones by what a run has learned."""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ..config.parts import Kind
from ..config.tiling import OVERLAP, TILE, Tiling
from ..data import write_image
from ..errors import UserError
from ..methods.pasting import paste
from ..networks import evaluating
from ..networks.weights import PASTED, RAIN_FROM, find_weights, read_metadata
from ..ops import rain_residual
from ..system.names import takes_home
from .inputs import ImageWatch, gather, is_folder
from .left_out import LeftOut
from .outputs import flat_names
from .painted_rain import PaintedRain
from .tiled_network import TiledNetwork, on_device


@takes_home
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
    watch: ImageWatch | None = None,
) -> list[tuple[Path, Path]]:
    """Make pseudo pairs: paint the rain of rainy photographs onto clean ones, to train any derainer with.

    pseudo rainy = G(clean, O - estimate of O) with the run's rain generator G, clamped to [0, 1]. The clean estimate is
    the derainer's where the run came to stage 2, in which G took rain from rewards and derained images, else the
    U-Net's. A run without a generator pastes what the derainer takes away (`methods.pasting.paste`). Each clean image
    meets one rainy image O, drawn without repetition as long as there are any; where sizes differ, both are cut to the
    largest centred rectangle they share. A warning says where what was painted can hardly be rain: it darkens, is
    coloured, or an even veil (`painted_rain.PaintedRain`, with the limits and what they were measured on).

    Args:
        run: run folder with derainer.safetensors, and generator.safetensors and unet.safetensors where it has them; or
            a derainer's file alone, whose rain is pasted.
        clean: clean image or folder.
        rainy: rainy image or folder, whose rain is taken.
        output: folder; gets rainy/NAME.png and clean/NAME.png, equal names for a pair.
        device, tile, overlap, watch: see `derain`.
        seed: of the draw.
        derainer: the run's derainer, where it is a network of your own, which no file can rebuild.

    Returns:
        The paths written: (rainy, clean) of each pair.

    Raises:
        UserError: an output in a folder of the input, missing or wrong weights, a derainer of your own that is needed
            and not given, or unusable folder or image.
    """
    backgrounds, sources = gather(clean), gather(rainy)
    for images in (clean, rainy):
        if is_folder(images) and Path(output).resolve().is_relative_to(Path(images).resolve()):
            raise UserError(
                f"{output} lies in {images}, whose images would be mixed with the pairs: give another output"
            )
    kind = _rain_from(run)
    if kind == PASTED:
        estimator, where = on_device(run if derainer is None else derainer, device, "derainer")
        generator = None
    else:
        generator, where = on_device(run, device, "generator")
        source_of_rain = derainer if derainer is not None and kind == "derainer" else run
        estimator, _ = on_device(source_of_rain, str(where), cast(Kind, kind))

    def paint(both: Tensor) -> Tensor:
        background, source = both[:, :3], both[:, 3:]
        if generator is None:
            return paste(background, source, estimator(source))
        return generator(rain_residual((background, source, estimator(source))))

    network = TiledNetwork(paint, where, Tiling(tile, overlap))
    names = flat_names([background.name for background in backgrounds])
    written: list[tuple[Path, Path]] = []
    left_out, looks = LeftOut(), PaintedRain()
    with evaluating(estimator):
        for i, source in enumerate(_draw(len(sources), len(backgrounds), seed)):
            with left_out.unless(len(backgrounds) == 1, backgrounds[i].name):
                background, wet = _common(backgrounds[i].load(), sources[source].load())
                painted = network.tensor(torch.cat([background, wet], dim=1))
                pair = (Path(output) / "rainy" / names[i], Path(output) / "clean" / names[i])
                write_image(pair[0], painted[0])
                try:
                    write_image(pair[1], background[0])
                except Exception:
                    pair[0].unlink(missing_ok=True)  # no half of a pair
                    raise
                written.append(pair)
                looks.add(painted, background)
            if watch is not None:
                watch(i + 1, len(backgrounds), names[i])
    if doubt := looks.doubt():
        warnings.warn(doubt, stacklevel=2)
    left_out.tell(f"{len(written)} pairs are written")
    return written


def _rain_from(run: str | Path) -> str:
    """What gives a run's rain; a run without a generator says so with its derainer, and one file is that derainer."""
    derainer = Path(run) / "derainer.safetensors"
    if derainer.is_file() and read_metadata(derainer).get(RAIN_FROM) == PASTED:
        return PASTED
    if not Path(run).is_dir():
        text = read_metadata(run)
        if text.get("kind", "derainer") == "derainer" and text.get(RAIN_FROM, PASTED) == PASTED:
            return PASTED
    return read_metadata(find_weights(run, "generator")).get(RAIN_FROM, "unet")


def _draw(sources: int, count: int, seed: int) -> list[int]:
    """Indices of `count` sources in random order, each used once before any is used again."""
    generator = random.Random(seed)
    drawn: list[int] = []
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
