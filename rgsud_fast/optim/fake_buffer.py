"""A buffer of earlier fakes, so that a judge does not forget what its generator no longer makes (CycleGAN's rule)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class FakeBuffer:
    """Keeps earlier fakes of each slot of the batch, as bytes on the device, and shows some in place of new ones.

    While a slot's places are being filled, each new fake is kept and shown. Then with probability 1/2 an earlier one is
    shown and replaced by the new one, else the new one is shown and not kept (Shrivastava et al., CVPR 2017; Zhu et
    al., ICCV 2017). A slot has places of its own, so any number of processes shows the same. What is drawn is given, so
    nothing here waits for the device, and a recorded step may hold it. A fake that is not finite is not kept.

    Args:
        places: earlier fakes per slot.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self.bytes: Tensor | None = None  # [kinds, slots, places, 3, H, W] uint8, from the first fakes on
        self.seen: Tensor | None = None  # exchanges so far, int64

    @torch.no_grad()
    def exchange(self, fakes: Tensor, drawn: Tensor) -> Tensor:
        """Keep fakes, and say what a judge is shown.

        Args:
            fakes: [M, 3, H, W] in [0, 1], M a multiple of the slots: several of a slot keep to places of their own.
            drawn: of each slot, whether an earlier one is shown (0 or 1) and which, int64 [slots, 2].

        Returns:
            [M, 3, H, W], of which those that are stored have 8 bits.
        """
        slots = len(drawn)
        shape = (len(fakes) // slots, slots, self.places, *fakes.shape[1:])
        if self.bytes is None or self.seen is None or self.bytes.shape != shape:
            self.bytes = torch.zeros(shape, dtype=torch.uint8, device=fakes.device)
            self.seen = torch.zeros((), dtype=torch.int64, device=fakes.device)
        kept = self.bytes.view(len(fakes), *shape[2:])
        use, place = drawn.repeat(shape[0], 1).unbind(1)
        filling = self.seen < self.places
        place = torch.where(filling, self.seen.clamp(max=self.places - 1), place)
        earlier = ((use == 1) & ~filling)[:, None, None, None]
        rows = torch.arange(len(fakes), device=fakes.device)
        stored = kept[rows, place]
        finite = torch.isfinite(fakes).flatten(1).all(1)[:, None, None, None]
        new = (fakes.float().nan_to_num() * 255).round().clamp(0, 255).to(torch.uint8)
        kept[rows, place] = torch.where((earlier | filling) & finite, new, stored)
        self.seen += 1
        return torch.where(earlier, (stored.float() / 255).to(fakes.dtype), fakes)

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run goes on with; {} before the first fakes."""
        return {} if self.bytes is None or self.seen is None else {"bytes": self.bytes, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Tensor], slots: range, device: torch.device) -> None:
        """Restore what `state_dict` or `join` returned, of some slots; of another number of places nothing is taken."""
        if state and state["bytes"].shape[2] == self.places:
            self.bytes = state["bytes"][:, slots.start : slots.stop].to(device, copy=True).contiguous()
            self.seen = state["seen"].to(device, copy=True)


def join(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The state of the buffers of all processes, in the order of their slots; {} before the first fakes."""
    if not states[0]:
        return {}
    return {"bytes": torch.cat([state["bytes"] for state in states], dim=1), "seen": states[0]["seen"]}
