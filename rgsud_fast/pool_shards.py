"""A reward pool over several processes: each keeps the images whose index falls to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .data.sampler import Crop
from .pool import RewardPool


class ShardedPool:
    """The rewards of all images, an equal share of them on each rank: image i belongs to rank i % ranks.

    Candidates may be made on any rank; those of other ranks' images wait until `exchange`, once per sweep. `take`,
    `exchange` and `mean_score` are collective: every rank must call them, in the same order.

    Args:
        sizes: height and width of every rainy image, in pixels; the same on every rank.
        group: the process group; by default the default one.
        options: of `RewardPool`.
    """

    def __init__(
        self, sizes: Sequence[tuple[int, int]], group: dist.ProcessGroup | None = None, **options: Any
    ) -> None:
        self.group = group
        self.rank, self.ranks = dist.get_rank(group), dist.get_world_size(group)
        self.sizes = [(int(height), int(width)) for height, width in sizes]
        self.own = list(range(self.rank, len(self.sizes), self.ranks))
        self.shard = RewardPool([self.sizes[index] for index in self.own], **options)
        self._waiting: list[tuple[int, Tensor, float]] = []  # image, its bytes [3, H, W], score

    def update(self, indices: Sequence[int], images: Tensor, scores: Tensor) -> None:
        """Offer derained versions of any images; see `RewardPool.update`. Those of other ranks wait for `exchange`."""
        mine = [n for n, index in enumerate(indices) if index % self.ranks == self.rank]
        if mine:
            self.shard.update([self._place(indices[n]) for n in mine], images[mine], scores[mine])
        for n, index in enumerate(indices):
            if n not in mine:
                pixels = (images[n].float().clamp(0, 1) * 255).round().to(torch.uint8)  # as the pool would round them
                self._waiting.append((index, pixels.cpu(), float(scores[n])))

    def exchange(self) -> None:
        """Bring every waiting candidate to the rank that keeps its image, in the order of ranks."""
        offers: list[Any] = [None] * self.ranks
        dist.all_gather_object(offers, self._waiting, group=self.group)
        self._waiting = []
        device = self.shard.device
        for index, pixels, score in (offer for rank in offers for offer in rank):
            if index % self.ranks == self.rank:
                image = pixels[None].to(device).float() / 255
                self.shard.update([self._place(index)], image, torch.tensor([score], device=device))

    def take(self, crops: Sequence[Crop], side: int) -> tuple[Tensor, Tensor]:
        """Reward crops of this rank's windows, whoever keeps the images; see `RewardPool.take`.

        Args:
            crops: where to cut; every rank its own, as many as the others.
            side: side of the crops, in pixels.

        Returns:
            Rewards, [N, 3, side, side] in [0, 1], and which of them exist, [N] bool; the others are zero.
        """
        asked: list[Any] = [None] * self.ranks
        dist.all_gather_object(asked, [tuple(crop) for crop in crops], group=self.group)
        wanted = [Crop(*crop) for rank in asked for crop in rank]
        mine = [n for n, crop in enumerate(wanted) if crop.index % self.ranks == self.rank]
        # One number more than a crop has: whether it exists. Each row has one owner: the sum over ranks gathers them.
        rows = torch.zeros(len(wanted), 3 * side * side + 1, device=self.shard.device)
        if mine:
            local = [wanted[n]._replace(index=self._place(wanted[n].index)) for n in mine]
            _, rewards, improved = self.shard.take(None, local, side)
            found = torch.cat([rewards.flatten(1), improved[:, None].float()], dim=1)
            rows[torch.tensor(mine, device=rows.device)] = found
        dist.all_reduce(rows, group=self.group)
        first = sum(len(rank) for rank in asked[: self.rank])
        own = rows[first : first + len(crops)]
        return own[:, :-1].reshape(-1, 3, side, side), own[:, -1] > 0

    def mean_score(self) -> Tensor:
        """Mean over the images of all ranks that have a reward of their best score; 0 where none has."""
        best, filled = self.shard.scores.max(dim=1).values, self.shard.filled
        sums = torch.stack([torch.where(filled, best, 0).sum(), filled.sum().float()])
        dist.all_reduce(sums, group=self.group)
        return sums[0] / sums[1].clamp(min=1)

    def state_dict(self) -> dict[str, Any]:
        """This rank's share, and which share it is."""
        return {"rank": self.rank, "ranks": self.ranks, "shard": self.shard.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned on the same rank of as many.

        Raises:
            ValueError: it is another share, or of other images.
        """
        if (state["rank"], state["ranks"]) != (self.rank, self.ranks):
            raise ValueError(
                f"this is share {self.rank} of {self.ranks} of the pool, "
                f"the saved one {state['rank']} of {state['ranks']}"
            )
        self.shard.load_state_dict(state["shard"])

    def _place(self, index: int) -> int:
        """Where an own image lies in the shard."""
        return index // self.ranks
