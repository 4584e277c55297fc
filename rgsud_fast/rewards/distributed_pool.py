"""The reward pool of a run: of one process, or over several, each keeping the images whose index falls to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..config import Config
from ..data import Domains
from ..data.sampler import Crop, offsets_of
from ..system.device import to_device
from ..system.distributed import Ranks
from .pool import RewardPool, arenas_of
from .pool_maps import PoolMaps
from .pool_memory import copy_bytes


def build_pool(config: Config, domains: Domains, ranks: Ranks, scratch: Path | None = None) -> Pool:
    """Make the empty reward pool of a run within its budgets of memory; what exceeds them goes to a file in `scratch`.

    Of several ranks each gets its share, and has the budgets for itself.

    Raises:
        UserError: it fits nowhere.
    """
    reward = config.reward
    budgets = (None if gib is None else int(gib * 2**30) for gib in (reward.pool_device_gib, reward.pool_host_gib))
    device_bytes, host_bytes = budgets
    name = "pool.bytes" if ranks.count == 1 else f"pool-{ranks.rank}.bytes"
    options: dict[str, Any] = {
        "keep": reward.keep,
        "margin": reward.margin,
        "device": ranks.device,
        "device_bytes": device_bytes,
        "host_bytes": host_bytes,
        "maps": reward.map_weights,
        "file": None if scratch is None else scratch / name,
    }
    if not domains.unpaired:
        return RewardPool([], device=ranks.device)  # labelled pairs alone need no rewards
    sizes = domains.rainy.sizes
    return RewardPool(sizes, **options) if ranks.count == 1 else ShardedPool(sizes, ranks, **options)


class ShardedPool:
    """The rewards of all images, an equal share of them on each rank: image i belongs to rank i % ranks.

    A rank derains and scores its own images in a sweep, so candidates are made where they are kept. `take`, `filled`,
    `mean_score` and `state_dict` are collective: every rank must call them, in the same order.

    Args:
        sizes: height and width of every rainy image, in pixels; the same on every rank.
        ranks: the processes.
        options: of `RewardPool`.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], ranks: Ranks, **options: Any) -> None:
        self.ranks, self.options = ranks, options
        self.sizes = [(int(height), int(width)) for height, width in sizes]
        self.own = self._of(ranks.rank)
        self.shard = RewardPool([self.sizes[index] for index in self.own], **options)

    @property
    def tiers(self) -> list:
        """Where this rank's share lies."""
        return self.shard.tiers

    def where(self) -> str:
        """What it takes and where, for people."""
        return f"{self.shard.where()}, on each of {self.ranks.count} processes"

    def update(self, indices: Sequence[int], images: Tensor, scores: Tensor) -> Tensor:
        """Offer derained versions of own images; see `RewardPool.update`."""
        return self.shard.update([self._place(index) for index in indices], images, scores)

    def decay(self, amount: float) -> None:
        """See `RewardPool.decay`."""
        self.shard.decay(amount)

    def evict(self, index: int, least: Tensor) -> None:
        """Of an own image; see `RewardPool.evict`."""
        self.shard.evict(self._place(index), least)

    def rescore(self, index: int, scores: Tensor) -> None:
        """Of an own image; see `RewardPool.rescore`."""
        self.shard.rescore(self._place(index), scores)

    def versions(self, index: int) -> Tensor:
        """Of an own image; see `RewardPool.versions`."""
        return self.shard.versions(self._place(index))

    def holds(self, index: int) -> bool:
        """Whether an own image has a reward."""
        return self.shard.holds(self._place(index))

    def best(self, index: int) -> tuple[Tensor, Tensor]:
        """Of an own image; see `RewardPool.best`."""
        return self.shard.best(self._place(index))

    def take(self, crops: Sequence[Crop], side: int) -> tuple[Tensor, Tensor]:
        """Reward crops, whoever keeps the images; see `RewardPool.take`.

        Args:
            crops: where to cut: the crops of all ranks, which every rank knows, as crops are drawn without state.
            side: side of the crops, in pixels.

        Returns:
            Rewards of all crops, [N, 3, side, side] in [0, 1], and which of them exist, [N] bool; the others are zero.
        """
        mine = [n for n, crop in enumerate(crops) if self._is_own(crop.index)]
        # One number more than a crop has: whether it exists. Each row has one owner: the sum over ranks gathers them.
        rows = torch.zeros(len(crops), 3 * side * side + 1, device=self.shard.device)
        if mine:
            local = [crops[n]._replace(index=self._place(crops[n].index)) for n in mine]
            _, rewards, improved = self.shard.take(None, local, side)
            found = torch.cat([rewards.flatten(1), improved[:, None].float()], dim=1)
            rows[to_device(torch.tensor(mine), rows.device)] = found
        rows = self.ranks.all_reduce(rows)
        return rows[:, :-1].reshape(-1, 3, side, side), rows[:, -1] > 0

    @property
    def keeps_maps(self) -> bool:
        """See `RewardPool.keeps_maps`."""
        return self.shard.keeps_maps

    def put_map(self, index: int, spoiled: Tensor, score: Tensor | None = None) -> None:
        """Of an own image; see `RewardPool.put_map`."""
        self.shard.put_map(self._place(index), spoiled, score)

    def take_maps(self, crops: Sequence[Crop], side: int) -> Tensor | None:
        """Maps of the crops of all ranks, which every rank must ask for; see `RewardPool.take_maps`."""
        if self.shard.maps is None:
            return None
        maps = torch.zeros(len(crops), 1, side, side, device=self.shard.device)
        for n, crop in enumerate(crops):
            if self._is_own(crop.index):
                maps[n] = self.shard.maps.take([crop._replace(index=self._place(crop.index))], side)[0]
        return self.ranks.all_reduce(maps)

    @property
    def filled(self) -> Tensor:
        """Which images have a reward, [images] bool."""
        there = torch.zeros(len(self.sizes), device=self.shard.device)
        there[to_device(torch.tensor(self.own), there.device)] = self.shard.filled.float()
        return self.ranks.all_reduce(there) > 0

    def mean_score(self) -> Tensor:
        """Mean over the images of all ranks that have a reward of their best score; 0 where none has."""
        best, filled = self.shard.scores.max(dim=1).values, self.shard.filled
        best, count = self.ranks.all_reduce(torch.stack([torch.where(filled, best, 0).sum(), filled.sum().float()]))
        return best / count.clamp(min=1)

    def whole(self) -> RewardPool | None:
        """All rewards in one pool, on the host, on rank 0; None on the others. It needs room for all of them there."""
        state = self.state_dict()
        if not self.ranks.first:
            return None
        kept = {name: self.options[name] for name in ("keep", "margin", "maps") if name in self.options}
        pool = RewardPool(self.sizes, **kept, device_bytes=2**62)
        pool.load_state_dict(state)
        return pool

    def state_dict(self) -> dict[str, Any]:
        """On rank 0 what `RewardPool.state_dict` of all images would be, so that any number of ranks can go on with it;
        on the others nothing."""
        keep, offsets = self.shard.scores.shape[1], offsets_of(self.sizes)
        bytes_of = [sum(offsets[i + 1] - offsets[i] for i in self._of(rank)) for rank in range(self.ranks.count)]
        own = torch.cat([tier.arena.cpu() for tier in self.tiers], dim=1)
        arena = torch.empty(keep, offsets[-1] if self.ranks.first else 0, dtype=torch.uint8)
        for rank, shard in enumerate(self.ranks.gather_bytes(own, [(keep, count) for count in bytes_of])):
            copy_bytes([shard], [arena[:, offsets[i] : offsets[i + 1]] for i in self._of(rank)])
        scores = torch.empty(len(self.sizes), keep)
        for rank, some in enumerate(self.ranks.all_gather(self.shard.scores.cpu())):
            scores[self._of(rank)] = some
        state: dict[str, Any] = {"arenas": [arena], "scores": scores}
        if self.shard.maps is not None:
            maps = PoolMaps(self.sizes)
            for rank, some in enumerate(self.ranks.all_gather(self.shard.maps.bytes.cpu())):
                maps.spread(self._of(rank), some)
            state["maps"] = maps.bytes
        return state if self.ranks.first else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore this rank's share of what `state_dict` returned, in a run of any number of ranks.

        Raises:
            ValueError: it is of images of other sizes, or of another `keep`.
        """
        offsets = offsets_of(self.sizes)
        arenas = arenas_of(state)
        own = [part for i in self.own for part in _cut(arenas, offsets[i], offsets[i + 1])]
        part = {"arenas": own, "scores": state["scores"][self.own]}
        if self.shard.maps is not None:
            maps = PoolMaps(self.sizes)
            maps.load(state.get("maps"))
            part["maps"] = torch.cat([maps.of(index) for index in self.own])
        self.shard.load_state_dict(part)

    def _of(self, rank: int) -> list[int]:
        return list(range(rank, len(self.sizes), self.ranks.count))

    def _is_own(self, index: int) -> bool:
        return index % self.ranks.count == self.ranks.rank

    def _place(self, index: int) -> int:
        """Where an own image lies in the shard."""
        return index // self.ranks.count


Pool: TypeAlias = RewardPool | ShardedPool


def _cut(arenas: Sequence[Tensor], low: int, high: int) -> list[Tensor]:
    """Views of the bytes low ... high of arenas that follow one another."""
    views, at = [], 0
    for arena in arenas:
        begin, end = max(low, at) - at, min(high, at + arena.shape[1]) - at
        if begin < end:
            views.append(arena[:, begin:end])
        at += arena.shape[1]
    return views
