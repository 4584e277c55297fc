"""The commands about images: derain, evaluate, rain, score, demo.

torch is imported by the command that needs it, so that --help and mistakes are answered at once.
"""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from tyro.conf import arg

from ..config.scorer_names import check_ready
from ..config.tiling import OVERLAP, TILE
from ..runs.folder import run_to_use
from ..system.device_names import check_device
from ..system.files import write_text
from ..system.given import check_images, check_target, check_weights
from .arguments import what_to_derain
from .mistakes import missing
from .options import (
    WEIGHTS,
    Device,
    GreyLayer,
    LocalStatistics,
    MaybeFile,
    MaybeFolder,
    Mirror,
    Overlap,
    Strength,
    Tile,
    TileBatch,
    check_tiles,
)
from .tables import count_of, figures_table, metrics_table, scores_table


def derain(
    paths: Annotated[tuple[Path, ...], arg(metavar="[WEIGHTS] INPUT OUTPUT")] = (),
    /,
    weights: Annotated[Path | None, arg(metavar="WEIGHTS", aliases=("-w",))] = None,
    input: Annotated[Path | None, arg(metavar="INPUT", aliases=("-i",))] = None,
    output: Annotated[Path | None, arg(metavar="OUTPUT", aliases=("-o",))] = None,
    tile: Tile = TILE,
    overlap: Overlap = OVERLAP,
    tile_batch: TileBatch = 1,
    local_statistics: LocalStatistics = 0,
    mirror: Mirror = False,
    grey_layer: GreyLayer = False,
    strength: Strength = 1.0,
    skip_existing: bool = False,
    ext: str = "png",
    suffix: str = "",
    device: Device = "auto",
) -> None:
    """Remove rain from an image, from every image of a folder, or from a video.

    Args:
        paths: In this order, those of them that no option names.
        weights: Run folder, file of weights or hf:OWNER/REPO[/FILE]; without it the newest finished run under runs/.
        input: Image, folder, searched recursively, or video (needs the extra video).
        output: Folder to write to; for one image or video also a file name.
        skip_existing: Leave out images whose result is there already: go on where a run was interrupted.
        ext: Ending of the files in a folder: png, jpg, webp (lossless), tif or bmp.
        suffix: What comes after a name in a folder, such as _derained.
    """
    check_tiles(tile, overlap, tile_batch)
    check_device(device)
    weights, images, output = what_to_derain(paths, weights, input, output)
    check_images(images)
    check_weights(weights)
    from ..inference.derain import derain
    from ..inference.video import is_video
    from ..system.progress import counting

    options: dict[str, Any] = {"device": device, "tile": tile, "overlap": overlap, "tile_batch": tile_batch}
    options |= {"local_statistics": local_statistics, "mirror": mirror, "grey_layer": grey_layer}
    options |= {"strength": strength, "skip_existing": skip_existing, "extension": ext.lstrip("."), "suffix": suffix}
    with counting("derained") as watch:
        written = derain(weights, images, output, watch=watch, watch_tiles=watch.part, **options)
    what = "video" if is_video(images) else "image"
    print(f"wrote {count_of(cast(list[Path], written), what)} to {output}")


def evaluate(
    weights: Annotated[Path | None, arg(metavar="WEIGHTS", help=WEIGHTS)] = None,
    /,
    rainy: MaybeFolder = None,
    clean: MaybeFolder = None,
    pairs: MaybeFolder = None,
    metrics: tuple[Literal["lpips", "dists"], ...] = (),
    json: MaybeFile = None,
    tile: Tile = TILE,
    overlap: Overlap = OVERLAP,
    tile_batch: TileBatch = 1,
    local_statistics: LocalStatistics = 0,
    mirror: Mirror = False,
    grey_layer: GreyLayer = False,
    strength: Strength = 1.0,
    device: Device = "auto",
) -> None:
    """Measure PSNR and SSIM, on RGB and on Y, against clean versions.

    Args:
        rainy: Folder of rainy images.
        clean: Folder of their clean versions, matched by file name.
        pairs: In place of both: folder of labelled pairs in the layout of a public set (docs/unirain.md).
        metrics: Further figures, lower is better: lpips, dists (extra iqa; pyiqa loads weights at their first use).
        json: File to write the figures to, of every image and on average.
    """
    check_tiles(tile, overlap, tile_batch)
    check_device(device)
    needed = {} if pairs is not None else {"--rainy DIR": rainy, "--clean DIR": clean}
    if weights is None or None in needed.values():
        raise missing({"WEIGHTS": weights, **needed}, "rgsud-fast evaluate")
    check_images(rainy, clean, pairs)
    check_weights(weights)
    check_target(json)
    from ..inference.evaluate import evaluate
    from ..system.progress import counting

    options: dict[str, Any] = {"device": device, "tile": tile, "overlap": overlap, "tile_batch": tile_batch}
    options |= {"local_statistics": local_statistics, "mirror": mirror, "grey_layer": grey_layer, "strength": strength}
    with counting("evaluated") as watch:
        figures = evaluate(weights, rainy, clean, pairs=pairs, metrics=metrics, watch=watch, **options)
    print(figures_table(figures, metrics))
    if json is not None:
        write_text(json, json_text.dumps(figures, indent=2) + "\n")


def rain(
    run: Annotated[Path, arg(metavar="RUN")],
    clean: Annotated[Path, arg(metavar="CLEAN")],
    rainy: Annotated[Path, arg(metavar="RAINY")],
    output: Annotated[Path, arg(metavar="OUT")],
    /,
    seed: int = 0,
    tile: Tile = TILE,
    overlap: Overlap = OVERLAP,
    device: Device = "auto",
) -> None:
    """Make pseudo pairs: paint the rain of rainy photographs onto clean ones.

    Args:
        run: Run folder, or a derainer's weights, with which rain is pasted.
        clean: Clean image or folder.
        rainy: Rainy image or folder, whose rain is taken.
        output: Folder; gets rainy/NAME.png and clean/NAME.png, equal names for a pair.
        seed: Seed of the draw that gives each clean image its rain.
    """
    check_tiles(tile, overlap)
    check_device(device)
    check_images(clean, rainy)
    check_weights(run, "generator")
    from ..inference.rain import rain
    from ..system.progress import counting

    options: dict[str, Any] = {"device": device, "tile": tile, "overlap": overlap, "seed": seed}
    with counting("painted") as watch:
        written = rain(run, clean, rainy, output, watch=watch, **options)
    print(f"wrote {count_of(written, 'pair')} to {output / 'rainy'} and {output / 'clean'}")


def score(
    images: Annotated[Path | None, arg(metavar="IMAGES")] = None,
    /,
    metric: Annotated[str | None, arg(metavar="METRIC")] = None,
    pairs: MaybeFolder = None,
    rainy: MaybeFolder = None,
    maps: MaybeFolder = None,
    stage: int | None = None,
    json: MaybeFile = None,
    list: bool = False,
    device: Device = "auto",
) -> None:
    """Judge images without ground truth; higher is better.

    Args:
        images: Image or folder, searched recursively.
        metric: Run folder or its scorer.safetensors, a file of fit-niqe, or niqe:FILE.npz, brisque:FILE.yml, daclip,
            daclip:FILE, finpercep:FILE, pyiqa:METRIC, ensemble:[A,B]; niqe alone has no model: fit one with fit-niqe.
        pairs: Folder of clean versions, matched by file name: in how many pairs does the clean one win?
        rainy: Folder of the inputs that the images were derained from, matched by file name: what was removed counts.
        maps: Folder to write heat maps to, which show where an image is spoiled; for finpercep.
        stage: Stage of finpercep, 0 to 3; default: its last.
        json: File to write the scores to.
        list: Name the metrics that there are, those of pyiqa too where it is installed, and stop.
    """
    if list:
        print(metrics_table())
        return
    if images is None or metric is None:
        raise missing({"IMAGES": images, "--metric METRIC": metric}, "rgsud-fast score")
    check_device(device)
    check_images(images, pairs, rainy)
    check_ready(metric)
    check_target(json)
    from ..inference.score import score_files
    from ..system.progress import counting

    options: dict[str, Any] = {"rainy": rainy, "maps": maps, "stage": stage, "device": device}
    with counting("scored") as watch:
        figures = score_files(images, metric, pairs, watch=watch, **options)
    print(scores_table(figures))
    if maps is not None:
        print(f"wrote {count_of(figures['images'], 'map')} to {maps}")
    if json is not None:
        write_text(json, json_text.dumps(figures, indent=2) + "\n")


def demo(
    weights: Annotated[Path | None, arg(metavar="[WEIGHTS]")] = None,
    /,
    port: int = 7860,
    tile: int = TILE,
    mirror: Mirror = False,
    grey_layer: GreyLayer = False,
    device: Device = "auto",
) -> None:
    """Open a page on this machine: drop a photograph, compare it with its derained version, look at the run's gallery.

    Args:
        weights: Run folder, file of weights or hf:OWNER/REPO[/FILE]; without it the newest finished run under runs/.
        port: Where to listen, on 127.0.0.1 alone; 0 takes any free port.
        tile: Side in pixels of the tiles of which larger images are made.
    """
    check_device(device)
    check_weights(weights := run_to_use() if weights is None else weights)
    from ..demo_page import serve

    serve(weights, port=port, device=device, tile=tile, mirror=mirror, grey_layer=grey_layer)
