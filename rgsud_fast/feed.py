"""What an iteration learns from: the crops of its step, on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from .config import Config
from .data import Crop, Domains, ImageSet, Stream, batch_of, draw
from .device import memory_layout


class Feed:
    """Draws the crops of a run: a pure function of its seed and the step, so it has no state to save.

    Args:
        config: the run.
        domains: its images.
        device: where the crops are put.
    """

    def __init__(self, config: Config, domains: Domains, device: torch.device) -> None:
        self.config, self.domains, self.device = config, domains, device

    def pair(self, step: int) -> tuple[Tensor, Tensor, list[Crop]]:
        """The rainy and the clean crops of an iteration, and where the rainy ones lie."""
        rainy, crops = self._crops(self.domains.rainy, "rainy", step, 1)
        clean, _ = self._crops(self.domains.clean, "clean", step, 1)
        return rainy, clean, crops

    def images(self, step: int) -> tuple[dict[str, Tensor], list[Crop]]:
        """The crops of an iteration.

        Returns:
            `rainy` and `clean`, [batch, 3, crop, crop] in [0, 1]; `reals`, the rainy ones that the discriminator sees,
            in several batches where the configuration says so; and where the rainy crops lie.
        """
        rainy, clean, crops = self.pair(step)
        more = self.config.optim.discriminator_reals - 1
        reals = torch.cat([rainy, self._crops(self.domains.rainy, "reals", step, more)[0]]) if more else rainy
        return {"rainy": rainy, "clean": clean, "reals": reals}, crops

    def _crops(self, images: ImageSet, stream: Stream, step: int, batches: int) -> tuple[Tensor, list[Crop]]:
        config = self.config
        crops = draw(config.seed, step, batches * config.batch, images.sizes, config.crop, stream)
        batch = batch_of(images, crops, config.crop)
        if self.device.type == "cuda":  # from pinned memory the copy does not keep the host waiting
            batch = batch.pin_memory().to(self.device, non_blocking=True)
        return batch.contiguous(memory_format=memory_layout(self.device)), crops
