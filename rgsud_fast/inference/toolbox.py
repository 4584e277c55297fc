"""Photographs repaired by a toolbox, with what its agent thought at each step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..config.tiling import TILE, Tiling
from ..data import Photo, read_photo, write_image, write_photo
from ..data.image_files import check_largest
from ..errors import UserError
from ..iqa.metrics import psnr
from ..networks.tiles import bands, run_tiled, window_of
from ..networks.toolbox import Chain, Choice, load_box
from ..networks.toolbox.cells import per_cell
from ..system.device import pick_device
from ..system.files import write_text
from ..system.names import takes_home
from .inputs import Images, ImageWatch, Source, gather, is_single, partners
from .left_out import LeftOut
from .outputs import targets_of, without_outputs
from .video import is_video

OVERLAP = 96  # of tiles: three tools see 24 pixels away, and a quarter of an overlap counts for nothing


@takes_home
def run(
    box: str | Path | Chain,
    images: Images,
    output: str | Path | None = None,
    *,
    steps: int | None = None,
    per_tile: bool = False,
    trace: bool | str | Path = False,
    device: str = "auto",
    tile: int = TILE,
    tools: Mapping[str, nn.Module] | None = None,
    watch: ImageWatch | None = None,
) -> Any:
    """Repair photographs; from file to file depth, metadata and transparency are kept as `derain` keeps them.

    Args:
        box: the folder of a toolbox, or what `load_box` made of it.
        images: as `derain` takes them, but no video.
        output: where to write, as for `derain`; None returns tensors.
        steps: most tools of a chain, 1 to 3; None takes the toolbox's.
        per_tile: each cell of 64 pixels gets a chain of its own, blended at the edges: for damage that is local.
        trace: True returns with each image what the agent thought; with `output`, a folder to write it to, with the
            photograph after each tool.
        device: auto, cpu, cuda or cuda:N.
        tile: side in pixels of the tiles of which larger images are made; a chain is chosen by the whole image.
        tools: networks of your own that the toolbox was trained with.
        watch: called after each image.

    Returns:
        Without `output`, images in [0, 1] on the CPU as `derain` returns them; with `trace`, each as (image, steps),
        a step being a dict of `action`, `worth` (mean Q by action) and `votes`, or, `per_tile`, of the `actions` of
        all cells. With `output`, the paths written.

    Raises:
        UserError: no toolbox, a photograph smaller than the agent's side, a video, or a tool that sees too far for
            `per_tile`; the message names it.
    """
    if is_video(images):
        raise UserError(f"{images}: a toolbox is for photographs, not for videos")
    if steps is not None and not 1 <= steps <= 3:
        raise UserError(f"steps {steps} must be from 1 to 3")
    if tile < 0:
        raise UserError(f"tile must be at least 0 (0: whole images), got {tile}")
    where = pick_device(device)
    chain = box if isinstance(box, Chain) else load_box(box, tools, steps)
    chain = chain.to(where)
    sources = gather(images, smallest=1)
    if output is not None:
        sources = without_outputs(sources, images, Path(output))
    targets = targets_of(sources, images, Path(output)) if output is not None else []
    folder = Path(trace) if isinstance(trace, (str, Path)) else None
    work = _Work(chain, where, Tiling(tile, min(OVERLAP, max(tile // 2, 0))), per_tile, folder)
    done: list[Any] = []
    left_out = LeftOut()
    with torch.no_grad():
        for i, source in enumerate(sources):
            with left_out.unless(output is None or len(sources) == 1, source.name):
                done += work.to_files(source, targets[i]) if targets else work.to_tensors(source, bool(trace))
            if watch is not None:
                watch(i + 1, len(sources), source.name)
    left_out.tell(f"{len(done)} images are written")
    return done[0] if output is None and is_single(images) else done


@takes_home
def single_tools(
    box: str | Path,
    rainy: Images,
    clean: Images,
    *,
    device: str = "auto",
    tools: Mapping[str, nn.Module] | None = None,
    watch: ImageWatch | None = None,
) -> dict[str, float]:
    """Mean PSNR (RGB) of pairs after each tool of a toolbox alone, by name: what its agent has to beat.

    Args:
        box: the folder of a toolbox.
        rainy, clean: folders or lists, matched by file name.
        device, tools, watch: see `run`.

    Raises:
        UserError: no toolbox, or pairs that do not match.
    """
    where = pick_device(device)
    chain = load_box(box, tools).to(where)
    inputs = gather(rainy)
    totals = dict.fromkeys(chain.names, 0.0)
    for i, (source, truth) in enumerate(zip(inputs, partners(inputs, gather(clean)), strict=True)):
        image, wanted = source.load(), truth.load()
        for place, name in enumerate(chain.names):
            with torch.no_grad():
                made = run_tiled(chain.tools[place], image.to(where)).cpu()
            totals[name] += float(psnr(made, wanted)) / len(inputs)
        if watch is not None:
            watch(i + 1, len(inputs), source.name)
    return totals


class _Work:
    """A chain, where it runs, and how."""

    def __init__(self, chain: Chain, where: torch.device, tiling: Tiling, per_tile: bool, trace: Path | None) -> None:
        self.chain, self.where, self.tiling, self.per_tile, self.trace = chain, where, tiling, per_tile, trace

    def to_files(self, source: Source, targets: list[Path]) -> list[Path]:
        """Repair one source into its files."""
        if source.path is None:
            for image, target in zip(source.load(), targets, strict=True):
                write_image(target, self._whole(image[None], source.name)[0][0].clamp(0, 1))
            return targets
        photo = read_photo(source.path, smallest=1)
        check_largest(targets[0], *photo.pixels.shape[:2])
        write_photo(targets[0], self._photo(photo, source.name))
        return targets

    def to_tensors(self, source: Source, trace: bool) -> list[Any]:
        """Repair one source: [3, H, W], or [N, 3, H, W] of a batch, each with its steps where asked."""
        made = [self._whole(image[None], source.name) for image in source.load()]
        images = [image[0].clamp(0, 1).cpu() for image, _ in made]
        steps = [steps for _, steps in made]
        if source.batched:
            return [(torch.stack(images), steps)] if trace else [torch.stack(images)]
        return [(images[0], steps[0])] if trace else images

    def _photo(self, photo: Photo, name: str) -> Photo:
        height, width = photo.pixels.shape[:2]
        if self.per_tile or self.trace is not None:
            image, _ = self._whole(photo.window(0, height, 0, width), name)
            return replace(photo, pixels=photo.numbers(image))
        pixels = np.empty_like(photo.pixels)
        call = self._on_device(self.chain.choose(photo.window, height, width).tools)
        for top, band in bands(call, photo.window, height, width, self.tiling):
            pixels[top : top + band.shape[-2]] = photo.numbers(band)
        return replace(photo, pixels=pixels)

    def _whole(self, image: Tensor, name: str) -> tuple[Tensor, list[dict[str, Any]]]:
        """One image [1, 3, H, W] in memory, with its steps."""
        if self.per_tile:
            cells = per_cell(self.chain, image.to(self.where))
            told: list[dict[str, Any]] = [{"actions": actions, "grid": list(cells.grid)} for actions in cells.actions]
            self._tell(name, told, [cells.image.cpu()])
            return cells.image.cpu(), told
        choice = self.chain.choose(window_of(image), *image.shape[-2:])
        states = [image]
        for tool in choice.tools:
            states.append(run_tiled(self._on_device([tool]), states[-1], tiling=self.tiling))
        self._tell(name, _steps_of(choice), states[1:])
        return states[-1], _steps_of(choice)

    def _on_device(self, tools: list[int]) -> Any:
        apply = self.chain.applied(tools)
        return lambda tiles: apply(tiles.to(self.where)).cpu()

    def _tell(self, name: str, steps: list[dict[str, Any]], states: list[Tensor]) -> None:
        """Write what was thought, and the photograph after each tool, where asked."""
        if self.trace is None:
            return
        stem = self.trace / Path(name).with_suffix("").as_posix().replace("/", "_")
        stem.parent.mkdir(parents=True, exist_ok=True)
        write_text(f"{stem}.json", json.dumps({"name": name, "steps": steps}, indent=2) + "\n")
        for i, state in enumerate(states):
            action = steps[i].get("action", "cells")
            write_image(f"{stem}-{i + 1}-{action}.png", state[0].clamp(0, 1))


def _steps_of(choice: Choice) -> list[dict[str, Any]]:
    return [step._asdict() for step in choice.steps]
