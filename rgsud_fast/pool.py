"""The reward pool: for every rainy training image, the best derained versions seen so far."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .data.sampler import offsets_of
from .ops import pool_update, take_crops
from .ops.pool_update import EMPTY


class RewardPool:
    """Keep the k best derained versions of each rainy image, 8-bit, with their scores, on the training device.

    One flat arena of bytes per slot holds all images one after another, so that images of mixed sizes need no padding.
    It takes keep * 3 bytes per pixel of the rainy set. `update` does not wait for the device.

    Args:
        sizes: height and width of every rainy image, in pixels.
        keep: versions kept per image (1 is the paper).
        margin: a new version must beat the score it replaces by more than this.
        device: where the arena lives.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        keep: int = 1,
        margin: float = 0.0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.sizes = [(int(height), int(width)) for height, width in sizes]
        self.margin = margin
        self._offsets = offsets_of(self.sizes)
        self.arena = torch.zeros(keep, self._offsets[-1], dtype=torch.uint8, device=device)
        self.scores = torch.full((len(self.sizes), keep), EMPTY, device=device)  # slots in no particular order

    def update(self, indices: Sequence[int], images: Tensor, scores: Tensor) -> Tensor:
        """Offer derained versions; each enters where its score beats its image's worst slot.

        Args:
            indices: which rainy image each is a version of, N of them, all of one size.
            images: the versions, [N, 3, H, W] in [0, 1].
            scores: [N], higher is better; a score that is not finite is refused.

        Returns:
            Which of them entered, [N] bool.

        Raises:
            ValueError: an image is not of its size.
        """
        for index in indices:
            if tuple(images.shape[1:]) != (3, *self.sizes[index]):
                raise ValueError(f"image {index} must be {[3, *self.sizes[index]]}, got {list(images.shape[1:])}")
        places = torch.tensor([(index, self._offsets[index]) for index in indices])
        if self.arena.is_cuda:  # from pinned memory the copy does not keep the host waiting
            places = places.pin_memory().to(self.arena.device, non_blocking=True)
        return pool_update(self.arena, self.scores, images, scores.float(), places, self.margin)

    def take(self, pixels: Tensor, windows: Tensor, indices: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Cut crops of the rainy images, and reward crops of the same windows and flips.

        Of several kept versions the crop is their mean: it is closer to the truth than any one of them where their
        errors differ.

        Args:
            pixels: the rainy images, uint8 [3 * pixels of the set], on the pool's device.
            windows: of the crops as `ops.take_crops` wants them, int64 [N, 6], on the pool's device.
            indices: of the images they belong to, int64 [N], on the pool's device.
            side: side of the crops, in pixels.

        Returns:
            Rainy crops and rewards, [N, 3, side, side] in [0, 1], and which rewards exist, [N] bool; the others are
            zero.
        """
        filled = torch.isfinite(self.scores[indices])  # [N, keep]
        shares = filled.float() / filled.sum(dim=1, keepdim=True).clamp(min=1)
        rainy, rewards = take_crops(pixels, windows, side, self.arena, shares)
        return rainy, rewards, filled.any(dim=1)

    def versions(self, index: int) -> Tensor:
        """The stored bytes of one image, [keep, H, W, 3]; zeros in empty slots."""
        height, width = self.sizes[index]
        stored = self.arena[:, self._offsets[index] : self._offsets[index + 1]]
        return stored.reshape(-1, height, width, 3)

    def best(self, index: int) -> tuple[Tensor, Tensor]:
        """The best version of one image, [H, W, 3] bytes, and its score."""
        slot = self.scores[index].argmax()
        return self.versions(index)[slot], self.scores[index, slot]

    @property
    def filled(self) -> Tensor:
        """Which images have a reward, [images] bool."""
        return torch.isfinite(self.scores).any(dim=1)

    def mean_score(self) -> Tensor:
        """Mean over the images that have a reward of their best score; 0 where none has."""
        best = self.scores.max(dim=1).values
        return torch.where(self.filled, best, 0).sum() / self.filled.sum().clamp(min=1)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything an exact resume needs."""
        return {"arena": self.arena, "scores": self.scores}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: it is of another number of images or pixels, or of another `keep`.
        """
        for name, mine in self.state_dict().items():
            if state[name].shape != mine.shape:
                raise ValueError(f"the pool's {name} are {list(mine.shape)}, the saved ones {list(state[name].shape)}")
        self.arena.copy_(state["arena"])
        self.scores.copy_(state["scores"])
