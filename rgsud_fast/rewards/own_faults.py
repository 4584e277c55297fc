"""A run's own derainer on clean photographs with known rain, sweep by sweep: what its reward must learn to see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..config.finpercep import DERAINERS
from ..data import ImageSet, evenly, render_rain, to_batch
from ..data.image_files import to_bytes
from ..errors import UserError
from ..iqa import FinpercepScorer
from ..methods.pasting import paste
from ..methods.rgsud import Networks
from ..networks import evaluating
from ..networks.tiles import run_tiled
from ..ops import rain_residual
from ..system.files import replacing
from ..system.watch import Watch, nobody

CROPS, SIDE = 64, 256  # of the bank, and most of their side: 12 MiB per sweep
PAINTED = 64  # pairs that the run's generator paints for the fit
SIZE = "small"


class OwnFaults:
    """The bank: crops of clean photographs with rendered rain, the same ones in every sweep, and what becomes of them.

    Args:
        clean: the clean photographs.
        seed: of the crops and their rain.
        folder: where the bytes of each sweep go; None keeps them in memory.
    """

    def __init__(self, clean: ImageSet, seed: int, folder: Path | None) -> None:
        self.clean, self.seed, self.folder = clean, seed, folder
        self.steps: list[int] = []  # of the sweeps so far
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []
        self._memory: dict[int, list[np.ndarray]] = {}

    @torch.no_grad()
    def keep(self, derainer: nn.Module, step: int, device: torch.device) -> None:
        """Derain the bank and keep the bytes under this step."""
        with evaluating(derainer):
            made = [run_tiled(derainer, to_batch(rainy, device))[0].clamp(0, 1).cpu() for _, rainy in self.pairs()]
        images = [to_bytes(image) for image in made]
        if self.folder is None:
            self._memory[step] = images
        else:
            with replacing(self._file(step)) as temporary, open(temporary, "wb") as file:
                np.save(file, np.concatenate([image.reshape(-1) for image in images]))
        self.steps = [*(before for before in self.steps if before < step), step]

    def pairs(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Clean crops and their rainy versions, uint8 [h, w, 3] each."""
        if not self._pairs:
            from ..iqa.finpercep.generated import broad_style  # it loads scikit-image, which a run without it is spared

            rng = np.random.default_rng(self.seed)
            for number in range(CROPS):
                image = self.clean[number % len(self.clean)]
                top, left = (int(rng.integers(max(length - SIDE, 0) + 1)) for length in image.shape[:2])
                crop = np.ascontiguousarray(image[top : top + SIDE, left : left + SIDE])
                self._pairs.append((crop, render_rain(crop, broad_style(rng), int(rng.integers(2**62)))))
        return self._pairs

    def triplets(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Clean, rainy and derained crops of all sweeps.

        Raises:
            UserError: the bytes of a sweep are gone, without which a resumed run would not be exact.
        """
        return [(*pair, made) for step in self.steps for pair, made in zip(self.pairs(), self._read(step), strict=True)]

    def _read(self, step: int) -> list[np.ndarray]:
        if self.folder is None:
            return self._memory[step]
        sizes = [clean.shape for clean, _ in self.pairs()]
        try:
            flat = np.load(self._file(step), mmap_mode="r", allow_pickle=False)
            if flat.dtype != np.uint8 or flat.shape != (sum(int(np.prod(size)) for size in sizes),):
                raise ValueError
        except (OSError, ValueError):
            raise UserError(
                f"{self._file(step)}, from which finpercep is fitted, is missing or damaged: start a new run"
            ) from None
        ends = np.cumsum([int(np.prod(size)) for size in sizes])
        return [part.reshape(size) for part, size in zip(np.split(flat, ends[:-1]), sizes, strict=True)]

    def _file(self, step: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{step}.npy"


@torch.no_grad()
def painted_pairs(
    nets: Networks, rainy: ImageSet, clean: ImageSet, generator: bool, device: torch.device
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Clean images with rain of the rainy ones, by a run's generator, or pasted as its derainer takes it away.

    Returns:
        (clean, rainy) of one size each, uint8 [h, w, 3].
    """
    pairs = []
    with evaluating(nets.generator), evaluating(nets.unet), evaluating(nets.derainer):
        for number, index in enumerate(evenly(len(rainy), PAINTED, last=False)):
            dry, wet = (to_batch(image, device) for image in (clean[number % len(clean)], rainy[index]))
            height, width = (min(a, b, SIDE) for a, b in zip(dry.shape[-2:], wet.shape[-2:], strict=True))
            dry, wet = dry[..., :height, :width], wet[..., :height, :width]
            if generator:
                painted = nets.generator(rain_residual((dry, wet, nets.unet(wet)))).clamp(0, 1)
            else:
                painted = paste(dry, wet, nets.derainer(wet).clamp(0, 1))
            pairs.append((to_bytes(dry[0].cpu()), to_bytes(painted[0].cpu())))
    return pairs


def fit_in_run(
    scorer: FinpercepScorer,
    own: OwnFaults,
    painted: list[tuple[np.ndarray, np.ndarray]],
    seed: int,
    iterations: int,
    device: torch.device,
    watch: Watch = nobody,
) -> None:
    """Fit the networks of a run's FinPercep-RM to its clean photographs and to its own derainer's faults.

    Args:
        scorer: in stage 0; gets the networks.
        own: the bank.
        painted: see `painted_pairs`.
        seed: of the run. PyTorch's global generator is not moved.
        iterations: 0: as many as the size needs.
        device: where to fit.
        watch: told how many iterations are done, of the derainers that practise for it and then of the fit.
    """
    from ..iqa.finpercep.fit import Fit
    from ..iqa.finpercep.generated import Material

    material = Material(own.clean, painted, own.triplets())
    fit = Fit(material, scorer, SIZE, seed, iterations or None, device, derainers=DERAINERS)
    fit.prepare(watch)
    fit.run(watch)
