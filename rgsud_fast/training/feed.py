"""The feed of an iteration: the crops of its step, on the device."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..config import Config
from ..data import Crop, Domains, ImageSet, Stream, draw, draw_exchanges, draw_places, draw_uniform, windows_of
from ..errors import UserError
from ..methods import rgsud
from ..methods.pasting import paste
from ..ops import take_crops
from ..rewards.distributed_pool import ShardedPool
from ..rewards.pool import RewardPool
from ..system.device import memory_layout, to_device
from ..system.distributed import Ranks

RESIDENT_SHARE = 0.25  # of a GPU's free memory, for the images; a set that does not fit is cut on the host
DOMAINS: tuple[Stream, Stream] = ("rainy", "clean")
OF_CLEAN = ("clean", "clean_reals")  # streams of clean images
AHEAD = 2  # iterations whose crops are announced to sets that decode images when asked for


class Feed:
    """Draws the crops of a run: a pure function of its seed and the step, so it has no state to save.

    Args:
        config: the run.
        domains: its images.
        device: where the crops are put, and on a GPU the images' bytes where they take little of its free memory.
        ranks: the processes that share the crops of an iteration; default: this one alone.
        reads: which crops the method reads (`methods.method.READS`); default: RGSUD's.
        draws: which places are drawn for it (`methods.method.Drawing`).
        judges: how many of its judges have a buffer of earlier fakes.
    """

    def __init__(
        self,
        config: Config,
        domains: Domains,
        device: torch.device,
        ranks: Ranks | None = None,
        reads: frozenset[str] | None = None,
        draws: Mapping[str, tuple[int, Sequence[int]]] | None = None,
        judges: int = 0,
    ) -> None:
        self.config, self.domains, self.device, self.judges = config, domains, device, judges
        self.reads = rgsud.reads(config) if reads is None else reads
        self.draws = draws or {}
        self.ranks = ranks or Ranks(device)
        self.type_weights: dict[int, float] = {}  # of labelled pairs by their type; 1 of every other
        sets = {"rainy": domains.rainy, "clean": domains.clean}
        if domains.pairs is not None and domains.unpaired:
            sets |= {"labelled": domains.pairs.rainy, "labelled_clean": domains.pairs.clean}
        pairs = domains.pairs if "labelled" in self.reads else None
        self._floors = {} if pairs is None else pairs.floors(config.loss.labelled_floor, config.loss.pasted_floor)
        self._pixels = {name: _bytes_of(images) for name, images in sets.items() if images.pixels is not None}
        if device.type == "cuda":
            room = RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
            for name, pixels in self._pixels.items():
                if len(pixels) <= room:
                    self._pixels[name] = pixels.to(device)
                    room -= len(pixels)
        if not domains.unpaired:
            aliases = {"labelled": "rainy", "labelled_clean": "clean"}
            self._pixels |= {name: self._pixels[of] for name, of in aliases.items() if of in self._pixels}

    def pair(self, step: int) -> dict[str, Tensor]:
        """This rank's `rainy` and `clean` crops of an iteration, [share of the batch, 3, crop, crop] in [0, 1]."""
        return {stream: self._cut(stream, self._draw(stream, step)) for stream in DOMAINS}

    def images(
        self, step: int, pool: RewardPool | ShardedPool | None = None, layers: RewardPool | ShardedPool | None = None
    ) -> dict[str, Tensor]:
        """This rank's crops of an iteration; N is its share of the batch.

        Args:
            step: iterations done before this one.
            pool: rewards of the rainy crops; None where they are not learned from.
            layers: rewards whose rain is pasted; None where none is.

        Returns:
            Of what the method reads: `rainy` and `clean`, [N, 3, crop, crop] in [0, 1]; `reals`, the rainy ones that
            a judge sees, in several batches where the configuration says so, and `clean_reals`, clean ones of another
            draw for a judge of these; with a pool `rewards`, crops of the same windows as `rainy`, which is there
            then, and `improved`, which of these exist, [N] bool; with several ranks also `rewarded`, how many exist on
            each on average, a scalar (see `losses.reward_loss`), and where the pool keeps maps `spoiled`, those of the
            rewards, [N, 1, crop, crop]; with `layers` also `pasted` and `backgrounds`, the pasted pairs,
            [M, 3, crop, crop]; of labelled pairs `labelled` and `labelled_clean`, [N, 3, crop, crop], and
            `labelled_weights` and `labelled_floors`, [N]. Where these are all there is, nothing else is cut.
        """
        if pool is None and "rainy" not in self.reads:
            images = {}  # nobody looks at the rainy crops themselves
        elif pool is None:
            images = {"rainy": self._cut("rainy", self._draw("rainy", step))}
        elif isinstance(pool, ShardedPool):
            images = self._with_shared_rewards(step, pool)
        else:
            images = self._with_rewards(self._draw("rainy", step), pool)
        if "labelled" in self.reads:
            images |= self._labelled(step)
        if not self.domains.unpaired:
            return images
        images["clean"] = self._cut("clean", self._draw("clean", step))
        if layers is not None:
            images |= self._paste(step, images["clean"], layers)
        more = self.config.optim.discriminator_reals - 1
        self._announce(step, more, "rainy" in images, layers is not None)
        images |= self._numbers(step)
        if "clean_reals" in self.reads:
            images["clean_reals"] = self._cut("clean_reals", self._draw("clean_reals", step, more + 1))
        if "reals" not in self.reads:
            return images
        reals = [self._cut("rainy", self._draw("reals", step, more))] if more else []
        return images | {"reals": torch.cat([images["rainy"], *reals]) if reals else images["rainy"]}

    def _labelled(self, step: int) -> dict[str, Tensor]:
        """Labelled pairs, both images cut, mirrored and turned alike, and their weights by pair and type."""
        config, pairs = self.config, self.domains.pairs
        if pairs is None:
            raise UserError("the method learns from labelled pairs: give --data.pairs DIR")
        batch = config.batch
        drawn = pairs.draw(config.seed, step, batch, config.crop, config.data.balance, self.ranks.slots(batch))
        turns = [crop.turn for crop in drawn]
        sides = {}
        for name, images, crops in (
            ("labelled", pairs.rainy, [crop.rainy for crop in drawn]),
            ("labelled_clean", pairs.clean, [crop.clean for crop in drawn]),
        ):
            cut = self._cut_from(images, self._pixels.get(name), crops)
            turned = [image.rot90(turn, (1, 2)) for image, turn in zip(cut, turns, strict=True)]
            sides[name] = self._to_layout(torch.stack(turned))
        weights = [pairs.weights[c.pair] * self.type_weights.get(pairs.kinds[c.pair], 1.0) for c in drawn]
        floors = [self._floors[pairs.kinds[c.pair]] for c in drawn]
        numbers = {"labelled_weights": weights, "labelled_floors": floors}
        return sides | {name: to_device(torch.tensor(values), self.device) for name, values in numbers.items()}

    def _numbers(self, step: int) -> dict[str, Tensor]:
        """What a method and the buffers of its judges draw."""
        config, numbers, row = self.config, {}, 0
        for name, (count, bounds) in self.draws.items():
            numbers[name] = to_device(draw_places(config.seed, step, count, bounds, row), self.device)
            row += len(bounds)
        if places := config.optim.fake_buffer // config.batch * bool(self.judges):
            slots = self.ranks.slots(config.batch)
            drawn = draw_exchanges(config.seed, step, config.batch, self.judges, places, slots)
            numbers["exchanges"] = to_device(drawn, self.device)
        return numbers

    def _paste(self, step: int, clean: Tensor, pool: RewardPool | ShardedPool) -> dict[str, Tensor]:
        """Pasted pairs: the rain of rainy crops on some of the clean ones, a part of which are rewards instead."""
        loss, batch = self.config.loss, self.config.batch
        slots = self.ranks.slots(batch)
        places = {slot: step * batch + slot for slot in slots}  # in the endless stream of crops
        chosen = [slot for slot, place in places.items() if _falls(place, loss.pasted_share)]
        own = to_device(torch.tensor([slot - slots.start for slot in chosen]), self.device)
        rainy = self._cut("layers", self._draw("layers", step, slots=chosen))
        rewards, there = self._rewards("layers", step, pool, chosen)
        rewards = torch.where(there[:, None, None, None], rewards, rainy)
        clean = clean[own]
        onto = [_falls(int(places[slot] * loss.pasted_share), loss.pasted_on_rewards) for slot in chosen]
        if loss.pasted_on_rewards:
            others, exist = self._rewards("backgrounds", step, pool, chosen)
            exist = exist & to_device(torch.tensor(onto), self.device)
            clean = torch.where(exist[:, None, None, None], others, clean)
        gains = draw_uniform(self.config.seed, step, batch, *loss.pasted_gain, "layers", chosen)
        gain = to_device(torch.tensor(gains), self.device)[:, None, None, None]
        return {"pasted": self._to_layout(paste(clean, rainy, rewards, gain)), "backgrounds": self._to_layout(clean)}

    def _rewards(
        self, stream: Stream, step: int, pool: RewardPool | ShardedPool, slots: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Reward crops of some of this rank's slots in a stream, and which of them exist, wherever they are kept."""
        if isinstance(pool, ShardedPool):
            rewards, there = pool.take(self._draw(stream, step, slots=range(self.config.batch)), self.config.crop)
            own = to_device(torch.tensor(list(slots)), self.device)
            return self._to_layout(rewards[own]), there[own]
        _, rewards, there = pool.take(None, self._draw(stream, step, slots=slots), self.config.crop)
        return self._to_layout(rewards), there

    def _announce(self, step: int, more: int, rainy: bool, layers: bool) -> None:
        streams: tuple[tuple[Stream, int], ...]
        clean_reals = (more + 1) * ("clean_reals" in self.reads)
        streams = (("rainy", int(rainy)), ("clean", 1), ("reals", more * rainy), ("layers", int(layers)))
        streams = (*streams, ("clean_reals", clean_reals))
        for stream, batches in streams:
            images = self._set(stream)
            if images.pixels is None and batches:
                for later in range(step + 1, step + 1 + AHEAD):
                    images.expect(self._draw(stream, later, batches), self.config.crop)

    def _draw(self, stream: Stream, step: int, batches: int = 1, slots: Sequence[int] | None = None) -> list[Crop]:
        """Crops of this rank's slots, or of these of all ranks'."""
        config, count = self.config, batches * self.config.batch
        slots = self.ranks.slots(count) if slots is None else slots
        return draw(config.seed, step, count, self._set(stream).sizes, config.crop, stream, slots)

    def _set(self, stream: Stream) -> ImageSet:
        return self.domains.clean if stream in OF_CLEAN else self.domains.rainy

    def _cut(self, stream: Stream, crops: list[Crop]) -> Tensor:
        return self._cut_from(self._set(stream), self._pixels.get("clean" if stream in OF_CLEAN else "rainy"), crops)

    def _cut_from(self, images: ImageSet, pixels: Tensor | None, crops: list[Crop]) -> Tensor:
        if pixels is None:
            pixels, windows = images.cut(crops, self.config.crop)
        else:
            windows = to_device(windows_of(crops, images.sizes, images.offsets), pixels.device)
        return self._to_layout(take_crops(pixels, windows, self.config.crop)[0])

    def _with_rewards(self, crops: list[Crop], pool: RewardPool) -> dict[str, Tensor]:
        pixels = self._pixels.get("rainy")
        here = pixels is not None and pixels.device.type == self.device.type
        rainy, rewards, improved = pool.take(pixels if here else None, crops, self.config.crop)
        rainy = self._cut("rainy", crops) if rainy is None else self._to_layout(rainy)
        spoiled = pool.take_maps(crops, self.config.crop)
        maps = {} if spoiled is None else {"spoiled": spoiled}
        return {"rainy": rainy, "rewards": self._to_layout(rewards), "improved": improved, **maps}

    def _with_shared_rewards(self, step: int, pool: ShardedPool) -> dict[str, Tensor]:
        """The rainy crops of this rank and their rewards, which may lie on others."""
        crops = self._draw("rainy", step, slots=range(self.config.batch))
        rewards, improved = pool.take(crops, self.config.crop)
        spoiled = pool.take_maps(crops, self.config.crop)
        own = self.ranks.slots(self.config.batch)
        share = slice(own.start, own.stop)
        return {
            "rainy": self._cut("rainy", self._draw("rainy", step)),
            "rewards": self._to_layout(rewards[share]),
            "improved": improved[share],
            "rewarded": improved.sum().clamp(min=1) / self.ranks.count,
            **({} if spoiled is None else {"spoiled": spoiled[share]}),
        }

    def _to_layout(self, batch: Tensor) -> Tensor:
        return to_device(batch, self.device).contiguous(memory_format=memory_layout(self.device))


def _falls(place: int, share: float) -> bool:
    """Whether a place is one of a share that lies evenly over all places."""
    return int((place + 1) * share) > int(place * share)


def _bytes_of(images: ImageSet) -> Tensor:
    """The bytes of a set, sharing its memory. They may be a file that can only be read: nothing here writes to them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images.pixels)
