"""A network at work on images of any size: where it runs, how they are cut, what its means see."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ..config.parts import Kind
from ..config.tiling import Tiling
from ..data import Photo
from ..errors import UserError
from ..networks import PER_CROP, evaluating, local_statistics
from ..networks.derainers.moe import MoENet
from ..networks.tiles import Network, Read, Watch, bands, run_tiled, window_of
from ..networks.toolbox import Chain
from ..networks.weights import CROP, find_weights, load_network, read_metadata
from ..ops import reward_candidate
from ..system.device import pick_device

Weights: TypeAlias = str | Path | nn.Module
Window: TypeAlias = int | Literal["auto"]
STRONGEST = 1.5


@dataclass
class TiledNetwork:
    """A network, the device it is on, and the tiling that the images it is given share.

    A derainer's result may be made better as a reward is (`ops.reward_candidate`): `mirror` takes the mean with the
    mirrored image's, `grey_layer` makes what is taken away grey and nowhere negative. `strength` times the change that
    comes out is made.
    """

    network: Network
    device: torch.device
    tiling: Tiling
    mirror: bool = False
    grey_layer: bool = False
    strength: float = 1.0

    def tensor(self, images: Tensor) -> Tensor:
        """Apply the network to [N, C, H, W], image by image; a result on the CPU."""
        done = []
        for image in images[:, None]:
            call = self._for_photo(window_of(image), *image.shape[-2:])
            done.append(run_tiled(call, image, tiling=self.tiling))
        return torch.cat(done)

    def photo(self, photo: Photo, watch: Watch | None = None) -> Photo:
        """Apply it to a photograph: only tiles of it and a band as high as a tile are ever held as floats."""
        height, width = photo.pixels.shape[:2]
        pixels = np.empty_like(photo.pixels)
        call = self._for_photo(photo.window, height, width)
        for top, band in bands(call, photo.window, height, width, self.tiling, watch):
            pixels[top : top + band.shape[-2]] = photo.numbers(band)
        return replace(photo, pixels=pixels)

    def _for_photo(self, read: Read, height: int, width: int) -> Network:
        """What tiles of a photograph are given to: a chain of tools is chosen by the whole of it."""
        network = self.network
        if isinstance(network, Chain):
            network = network.for_photo(read, height, width)
        elif isinstance(network, MoENet):
            network = network.routed(read, height, width, self.tiling.tile, self.tiling.overlap)
        return functools.partial(self._call, network)

    def _call(self, network: Network, tiles: Tensor) -> Tensor:
        tiles = tiles.to(self.device)
        made = network(tiles)
        if self.mirror or self.grey_layer:
            mirrored = network(tiles.flip(3)) if self.mirror else None
            made, _ = reward_candidate(tiles, made, mirrored, self.grey_layer)
        if self.strength != 1:
            made = (tiles + self.strength * (made - tiles)).clamp(0, 1)
        return made.cpu()


@contextlib.contextmanager
def tiled_network(
    weights: Weights,
    device: str,
    tiling: Tiling,
    window: Window = 0,
    mirror: bool = False,
    grey_layer: bool = False,
    strength: float = 1.0,
) -> Iterator[TiledNetwork]:
    """A derainer ready to be applied, in evaluation mode and without gradients, with local statistics where asked.

    Raises:
        UserError: a strength that is not from 0 to `STRONGEST`, or weights or windows that cannot be used.
    """
    if not 0 <= strength <= STRONGEST:
        raise UserError(f"strength {strength} must be from 0, which changes nothing, to {STRONGEST}")
    side = window_side(weights, window)
    network, where = on_device(weights, device)
    with evaluating(network), local_statistics(network, side):
        yield TiledNetwork(network, where, tiling, mirror, grey_layer, strength)


def on_device(weights: Weights, device: str, kind: Kind = "derainer") -> tuple[nn.Module, torch.device]:
    """The network that weights stand for, where it shall run; auto leaves a given network where it is."""
    if isinstance(weights, nn.Module):
        parameter = next(weights.parameters(), None)
        if device == "auto":
            return weights, parameter.device if parameter is not None else torch.device("cpu")
        where = pick_device(device)
        return weights.to(where), where
    where = pick_device(device)
    return load_network(weights, kind).to(where), where


def window_side(weights: Weights, window: Window) -> int:
    """Side in pixels of the windows of local statistics; auto asks the weights for their training crop.

    Raises:
        UserError: they do not say it, or it is no side.
    """
    if window == "auto":
        crop = None if isinstance(weights, nn.Module) else read_metadata(find_weights(weights)).get(CROP)
        if crop is None or not crop.isdecimal() or len(crop) > 9:
            raise UserError(
                f"local statistics: the weights do not name their training crop; give the side of the windows, "
                f"{PER_CROP} times that crop, in pixels"
            )
        return int(PER_CROP * int(crop))
    if not isinstance(window, int) or window < 0:
        raise UserError(f"local statistics: {window!r} must be auto, or the side of the windows in pixels, or 0 (off)")
    return window
