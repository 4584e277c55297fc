"""The reward pool: for every rainy training image, the best derained versions seen so far."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.sampler import Crop, offsets_of, windows_of
from ..ops import pool_update, take_crops
from ..ops.pool_update import EMPTY
from ..system.device import to_device
from .pool_maps import PoolMaps
from .pool_memory import Tier, copy_bytes, lay_out


class RewardPool:
    """Keep the k best derained versions of each rainy image, 8-bit, with their scores, on the training device.

    The bytes of all images lie one after another, so that images of mixed sizes need no padding: keep * 3 bytes per
    pixel of the rainy set. What exceeds the device's budget lies in the host's memory, and what exceeds that in a
    mapped file, with the same interface; `update` waits for the device only for images that lie there.

    Args:
        sizes: height and width of every rainy image, in pixels.
        keep: versions kept per image (1 is the paper).
        margin: a new version must beat the score it replaces by more than this.
        device: where the networks are.
        maps: whether it is kept where the best version of each image is spoiled.
        device_bytes, host_bytes, file: budgets and the file of the rest; see `pool_memory.lay_out`.

    Raises:
        UserError: the budgets do not hold the pool and there is no file.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        keep: int = 1,
        margin: float = 0.0,
        device: torch.device | str = "cpu",
        *,
        device_bytes: int | None = None,
        host_bytes: int | None = None,
        file: Path | None = None,
        maps: bool = False,
    ) -> None:
        self.sizes = [(int(height), int(width)) for height, width in sizes]
        self.margin, self.device = margin, torch.device(device)
        self._offsets = offsets_of(self.sizes)
        self.tiers = lay_out(self._offsets, keep, self.device, device_bytes, host_bytes, file)
        self.scores = torch.full((len(self.sizes), keep), EMPTY, device=device)  # slots in no particular order
        self.maps = PoolMaps(self.sizes, device) if maps else None

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
        entered = torch.zeros(len(indices), dtype=torch.bool, device=scores.device)
        for tier in self.tiers:
            rows = [n for n, index in enumerate(indices) if tier.first <= index < tier.last]
            if not rows:
                continue
            everything = len(rows) == len(indices)
            offered = (images, scores) if everything else (images[rows], scores[rows])
            taken = self._update_tier(tier, [indices[n] for n in rows], *offered)
            entered = taken if everything else entered.index_put((torch.tensor(rows, device=taken.device),), taken)
        return entered

    def _update_tier(self, tier: Tier, indices: list[int], images: Tensor, scores: Tensor) -> Tensor:
        first = 0 if tier.scores is None else tier.first
        places = torch.tensor([(index - first, self._offsets[index] - tier.base) for index in indices])
        if tier.scores is None:
            offered = images, scores.float(), to_device(places, self.device)
            return pool_update(tier.arena, self.scores, *offered, self.margin)
        taken = pool_update(tier.arena, tier.scores, images.cpu(), scores.float().cpu(), places, self.margin)
        self._mirror(tier, tier.scores)
        return taken.to(scores.device)

    def _mirror(self, tier: Tier, scores: Tensor) -> None:
        """Bring a tier's scores to the device, where all scores are."""
        self.scores[tier.first : tier.last] = to_device(scores.clone(), self.device)

    def take(self, pixels: Tensor | None, crops: Sequence[Crop], side: int) -> tuple[Tensor | None, Tensor, Tensor]:
        """Cut crops of the rainy images, and reward crops of the same windows and flips.

        Of several kept versions the crop is their mean: it is closer to the truth than any one of them where their
        errors differ.

        Args:
            pixels: the rainy images, uint8 [3 * pixels of the set], on the pool's device; None: rewards alone.
            crops: where to cut, N of them.
            side: side of the crops, in pixels.

        Returns:
            Rainy crops (None without `pixels`) and rewards, [N, 3, side, side] in [0, 1], and which rewards exist,
            [N] bool; the others are zero.
        """
        windows = windows_of(crops, self.sizes, self._offsets)
        indices = to_device(torch.tensor([crop.index for crop in crops]), self.device)
        filled, shares = _shares(self.scores[indices])
        if len(self.tiers) == 1 and self.tiers[0].scores is None:
            arena = self.tiers[0].arena
            source = arena[0] if pixels is None else pixels
            cut, rewards = take_crops(source, to_device(windows, self.device), side, arena, shares)
            return None if pixels is None else cut, rewards, filled
        rainy = None if pixels is None else take_crops(pixels, to_device(windows, self.device), side)[0]
        rewards = torch.zeros(len(crops), 3, side, side, device=self.device)
        for tier in self.tiers:
            rows = [n for n, crop in enumerate(crops) if tier.first <= crop.index < tier.last]
            if rows:
                rewards[to_device(torch.tensor(rows), self.device)] = self._take_tier(tier, crops, windows, rows, side)
        return rainy, rewards, filled

    def _take_tier(self, tier: Tier, crops: Sequence[Crop], windows: Tensor, rows: list[int], side: int) -> Tensor:
        """Reward crops of these rows, [rows, 3, side, side] on the pool's device. A tier on the host is cut there."""
        of_tier = windows[rows] - torch.tensor([tier.base, 0, 0, 0, 0, 0])
        indices = torch.tensor([crops[n].index for n in rows])
        if tier.scores is None:
            shares = _shares(self.scores[to_device(indices, self.device)])[1]
            return take_crops(tier.arena[0], to_device(of_tier, self.device), side, tier.arena, shares)[1]
        shares = _shares(tier.scores[indices - tier.first])[1]
        return to_device(take_crops(tier.arena[0], of_tier, side, tier.arena, shares)[1], self.device)

    def decay(self, amount: float) -> None:
        """Take `amount` off every stored score, so that old rewards yield to new ones sooner."""
        self._change(lambda scores: scores - amount)

    def evict(self, index: int, least: Tensor) -> None:
        """Empty the slots of one image whose score is below `least`, a scalar: the derainer has outgrown them."""
        self._change(lambda scores: torch.where(scores < least.to(scores), EMPTY, scores), index)

    def rescore(self, index: int, scores: Tensor) -> None:
        """Give the stored versions of one image new scores, [keep]; one that is not finite empties its slot."""

        def renew(old: Tensor) -> Tensor:
            new = scores.to(old)
            return torch.where(torch.isfinite(old) & torch.isfinite(new), new, EMPTY)

        self._change(renew, index)

    def _change(self, new: Any, index: int | None = None) -> None:
        """Replace all scores, or those of one image, by new(scores)."""
        for tier in self.tiers:
            inside = tier.first <= (tier.first if index is None else index) < tier.last
            if not inside:
                continue
            rows = slice(tier.first, tier.last) if index is None else slice(index, index + 1)
            if tier.scores is None:
                self.scores[rows] = new(self.scores[rows])
            else:
                part = slice(rows.start - tier.first, rows.stop - tier.first)
                tier.scores[part] = new(tier.scores[part])
                self._mirror(tier, tier.scores)

    def versions(self, index: int) -> Tensor:
        """The stored bytes of one image, [keep, H, W, 3]; what empty slots hold means nothing."""
        height, width = self.sizes[index]
        tier = next(tier for tier in self.tiers if tier.first <= index < tier.last)
        begin, end = (self._offsets[i] - tier.base for i in (index, index + 1))
        return tier.arena[:, begin:end].reshape(-1, height, width, 3)

    def holds(self, index: int) -> bool:
        """Whether one image has a reward."""
        return bool(torch.isfinite(self.scores[index]).any())

    def best(self, index: int) -> tuple[Tensor, Tensor]:
        """The best version of one image, [H, W, 3] bytes, and its score."""
        slot = self.scores[index].argmax()
        return self.versions(index)[int(slot)], self.scores[index, slot]

    @property
    def keeps_maps(self) -> bool:
        """Whether it is kept where the best versions are spoiled."""
        return self.maps is not None

    def put_map(self, index: int, spoiled: Tensor, score: Tensor | None = None) -> None:
        """Keep where the best version of an image is spoiled, [1, 1, H, W].

        Of a version that was just offered with this score, [1], it is kept if that is the best score there is.
        """
        if self.maps is not None:
            self.maps.put(index, spoiled, True if score is None else score >= self.scores[index].max())

    def take_maps(self, crops: Sequence[Crop], side: int) -> Tensor | None:
        """Where the rewards of crops are spoiled, [N, 1, side, side] in [0, 1]; None where no maps are kept."""
        return None if self.maps is None else self.maps.take(crops, side)

    @property
    def filled(self) -> Tensor:
        """Which images have a reward, [images] bool."""
        return torch.isfinite(self.scores).any(dim=1)

    def mean_score(self) -> Tensor:
        """Mean over the images that have a reward of their best score; 0 where none has."""
        best = self.scores.max(dim=1).values
        return torch.where(self.filled, best, 0).sum() / self.filled.sum().clamp(min=1)

    def where(self) -> str:
        """What it takes and where, for people."""
        places = {"device": str(self.device), "host": "the host's memory", "file": "a mapped file"}
        parts = [f"{tier.arena.numel() / 2**20:,.0f} MiB in {places[tier.kind]}" for tier in self.tiers]
        return f"reward pool: {', '.join(parts)}"

    def state_dict(self) -> dict[str, Any]:
        """Everything an exact resume needs, also where the budgets are others then."""
        state = {"arenas": [tier.arena for tier in self.tiers], "scores": self.scores}
        return state if self.maps is None else state | {"maps": self.maps.bytes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: it is of another number of images or pixels, or of another `keep`.
        """
        arenas = arenas_of(state)
        bytes_of = [(len(arenas[0]), sum(arena.shape[1] for arena in arenas)), (len(self.scores[0]), self._offsets[-1])]
        for name, saved, mine in (
            ("bytes", *bytes_of),
            ("scores", tuple(state["scores"].shape), tuple(self.scores.shape)),
        ):
            if saved != mine:
                raise ValueError(f"the pool's {name} are {list(mine)}, the saved ones {list(saved)}")
        copy_bytes(arenas, [tier.arena for tier in self.tiers])
        self.scores.copy_(state["scores"])
        if self.maps is not None:
            self.maps.load(state.get("maps"))
        for tier in self.tiers:
            if tier.scores is not None:
                tier.scores.copy_(state["scores"][tier.first : tier.last])


def arenas_of(state: dict[str, Any]) -> list[Tensor]:
    """The arenas of a pool's saved state, which follow one another; the first files have a single one."""
    return state["arenas"] if "arenas" in state else [state["arena"]]


def _shares(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Which images have a reward, [N] bool, and the share of each version in the mean of them, [N, keep]."""
    there = torch.isfinite(scores)
    return there.any(dim=1), there.float() / there.sum(dim=1, keepdim=True).clamp(min=1)
