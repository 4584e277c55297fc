"""What an iteration learns from: the crops of its step, on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from .config import Config
from .data import Crop, Domains, ImageSet, Stream, draw, windows_of
from .device import memory_layout
from .ops import take_crops
from .pool import RewardPool

SHARE = 0.25  # of a GPU's memory: a set of images that takes more stays on the host, where its crops are cut


class Feed:
    """Draws the crops of a run: a pure function of its seed and the step, so it has no state to save.

    Args:
        config: the run.
        domains: its images.
        device: where the crops are put, and the images' bytes where there is room.
    """

    def __init__(self, config: Config, domains: Domains, device: torch.device) -> None:
        self.config, self.domains, self.device = config, domains, device
        self._pixels = {name: _resident(getattr(domains, name), device) for name in ("rainy", "clean")}

    def pair(self, step: int) -> tuple[Tensor, Tensor]:
        """The rainy and the clean crops of an iteration, [batch, 3, crop, crop] in [0, 1]."""
        return self._cut("rainy", self._draw("rainy", step)), self._cut("clean", self._draw("clean", step))

    def images(self, step: int, pool: RewardPool | None = None) -> dict[str, Tensor]:
        """The crops of an iteration.

        Returns:
            `rainy` and `clean`, [batch, 3, crop, crop] in [0, 1]; `reals`, the rainy ones that the discriminator sees,
            in several batches where the configuration says so; with a pool also `rewards`, crops of the same windows
            as `rainy`, and `improved`, which of these exist, [batch] bool.
        """
        crops = self._draw("rainy", step)
        images = {"rainy": self._cut("rainy", crops)} if pool is None else self._rewarded(crops, pool)
        images["clean"] = self._cut("clean", self._draw("clean", step))
        more = self.config.optim.discriminator_reals - 1
        reals = [self._cut("rainy", self._draw("reals", step, more))] if more else []
        return images | {"reals": torch.cat([images["rainy"], *reals]) if reals else images["rainy"]}

    def _draw(self, stream: Stream, step: int, batches: int = 1) -> list[Crop]:
        config = self.config
        return draw(config.seed, step, batches * config.batch, self._set(stream).sizes, config.crop, stream)

    def _set(self, stream: Stream) -> ImageSet:
        return self.domains.clean if stream == "clean" else self.domains.rainy

    def _cut(self, stream: Stream, crops: list[Crop]) -> Tensor:
        images, pixels = self._set(stream), self._pixels["clean" if stream == "clean" else "rainy"]
        windows = self._sent(windows_of(crops, images.sizes, images.offsets), pixels.device)
        batch = take_crops(pixels, windows, self.config.crop)[0]
        return self._sent(batch, self.device).contiguous(memory_format=memory_layout(self.device))

    def _rewarded(self, crops: list[Crop], pool: RewardPool) -> dict[str, Tensor]:
        images, pixels = self.domains.rainy, self._pixels["rainy"]
        windows = self._sent(windows_of(crops, images.sizes, images.offsets), self.device)
        indices = self._sent(torch.tensor([crop.index for crop in crops]), self.device)
        here = pixels.device == self.device
        rainy, rewards, improved = pool.take(pixels if here else pool.arena[0], windows, indices, self.config.crop)
        return {"rainy": rainy if here else self._cut("rainy", crops), "rewards": rewards, "improved": improved}

    def _sent(self, value: Tensor, device: torch.device) -> Tensor:
        """On that device; from pinned memory the copy does not keep the host waiting."""
        if device.type != "cuda" or value.is_cuda:
            return value
        return value.pin_memory().to(device, non_blocking=True)


def _resident(images: ImageSet, device: torch.device) -> Tensor:
    """The bytes of a set, on the device where they take little of its memory."""
    pixels = torch.from_numpy(images.pixels)
    if device.type == "cuda" and len(pixels) <= SHARE * torch.cuda.get_device_properties(device).total_memory:
        return pixels.to(device)
    return pixels
