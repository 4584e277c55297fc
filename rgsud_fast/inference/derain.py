"""Rain removed from photographs and videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ..config.tiling import OVERLAP, TILE, Tiling
from ..data import read_photo, write_image, write_photo
from ..data.image_files import check_largest
from ..networks.tiles import Watch
from ..system.names import takes_home
from .inputs import Images, ImageWatch, Source, gather, is_single
from .left_out import LeftOut
from .outputs import targets_of, without_existing, without_outputs
from .tiled_network import TiledNetwork, Weights, Window, tiled_network
from .video import derain_video, is_video


@takes_home
def derain(
    weights: Weights,
    images: Images,
    output: str | Path | None = None,
    *,
    device: str = "auto",
    tile: int = TILE,
    overlap: int = OVERLAP,
    tile_batch: int = 1,
    local_statistics: Window = 0,
    mirror: bool = False,
    grey_layer: bool = False,
    strength: float = 1.0,
    skip_existing: bool = False,
    extension: str = "png",
    suffix: str = "",
    watch: ImageWatch | None = None,
    watch_tiles: ImageWatch | None = None,
) -> Tensor | list[Tensor] | list[Path]:
    """Remove rain from images, or from a video.

    From file to file the depth (16 bits of PNG and TIFF), transparency, grey, EXIF data, colour profile and resolution
    of a photograph are kept where the format written can hold them; its pixels are turned upright. Memory grows with a
    tile, and by no more than the file's own numbers with the image.

    Args:
        weights: a run folder, its derainer.safetensors, or a network [N, 3, H, W] -> [N, 3, H, W].
        images: float tensor [N, 3, H, W] or [3, H, W] in [0, 1]; uint8 array [H, W, 3]; path of an image, or of a
            folder, searched recursively; or a list of any of these. Or the path of a video (extra `video`).
        output: where to write: for one image file a file name or a folder, else a folder, which takes the names and
            nesting of the input, as PNG unless `extension` says else; for a video a video's name or a folder. None
            returns tensors.
        device: auto, cpu, cuda or cuda:N; auto leaves a given network where it is.
        tile: side in pixels of the tiles of which larger images are made; 0 does every image whole. Where memory does
            not hold a tile, it is halved, with a warning.
        overlap: pixels that neighbouring tiles share.
        tile_batch: tiles that the network gets at once; the result does not depend on it.
        local_statistics: side in pixels of the windows that NAFNet's global means see instead of the whole image or
            tile; `auto` is 1.5 times the training crop (TLC, ECCV 2022), 0 leaves them global. What is half a window
            away then counts: overlap by 4/3 of a window for tiles that equal the whole.
        mirror: derain the mirrored image too and take the mean: twice the time, and errors that differ cancel in part.
        grey_layer: take away only what is equal in all three channels and nowhere negative, as rain in white light is;
            coloured light at night is not.
        strength: how much of what would be taken away is, 0 to 1.5; 1 is the network's own result.
        skip_existing: leave out images whose result is there already, as a run that was interrupted left them.
        extension: of the files written into a folder: png, jpg, webp (lossless), tif, bmp.
        suffix: what comes after the name there: `_derained` makes a_derained.png of a.jpg.
        watch: called after each image, or each frame of a video.
        watch_tiles: called after tiles of an image: tiles done, tiles in all, name of the image.

    Returns:
        Without `output`, derained images in [0, 1] on the CPU: a tensor of the input's shape ([3, H, W] for an array
        or a file), or a list of them. With `output`, the paths written.

    Raises:
        UserError: weights, image, video or folder that cannot be used; the message names it. Of several images that are
            to be written, those that can be read and written are written first.
        ValueError: tensor or array of another shape or type.
    """
    how = weights, device, Tiling(tile, overlap, tile_batch), local_statistics, mirror, grey_layer, strength
    if is_video(images):
        with tiled_network(*how) as network:
            return [derain_video(network, images, output, watch)]
    sources = gather(images, smallest=1)
    if output is not None:
        sources = without_outputs(sources, images, Path(output))
    targets = targets_of(sources, images, Path(output), f"{suffix}.{extension}") if output is not None else []
    if skip_existing and targets:
        sources, targets = without_existing(sources, targets)
    done: list[Any] = []
    left_out = LeftOut()
    with tiled_network(*how) as network:
        for i, source in enumerate(sources):
            with left_out.unless(output is None or len(sources) == 1, source.name):
                done += _one(network, source, targets[i] if targets else [], watch_tiles)
            if watch is not None:
                watch(i + 1, len(sources), source.name)
    left_out.tell(f"{len(done)} images are written")
    return done[0] if output is None and is_single(images) else done


def _one(network: TiledNetwork, source: Source, targets: list[Path], watch: ImageWatch | None) -> list[Any]:
    """Derain what one source holds: the paths written, or without any to write to the images."""
    if targets and source.path:  # from file to file
        photo = read_photo(source.path, smallest=1)
        check_largest(targets[0], *photo.pixels.shape[:2])
        write_photo(targets[0], network.photo(photo, _with_name(watch, source.name)))
        return targets
    derained = network.tensor(source.load()).clamp(0, 1)
    return _write_all(targets, derained) if targets else [derained if source.batched else derained[0]]


def _write_all(paths: list[Path], images: Tensor) -> list[Path]:
    for path, image in zip(paths, images, strict=True):
        write_image(path, image)
    return paths


def _with_name(watch: ImageWatch | None, name: str) -> Watch | None:
    return None if watch is None else lambda done, total: watch(done, total, name)
