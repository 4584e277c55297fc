"""Steps whose gradients are not finite: the device skips and counts them, the host asks at the next log line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


class StepFilter:
    """Lets an optimiser take no step where a gradient is not finite: weights, moments and step counts stay as they are.

    The device decides, and from gradients alone, which are equal on all processes of a run, so that all decide alike.

    Args:
        optimizer: fused Adam, which changes nothing where its `found_inf` is 1.
        device: where its parameters are.
        networks: what it trains; a skipped step leaves their buffers, such as running statistics, as they were too.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device, networks: Iterable[nn.Module]) -> None:
        self.optimizer = optimizer
        self.skipped = torch.zeros((), dtype=torch.int64, device=device)  # steps in all
        self.row = torch.zeros_like(self.skipped)  # in a row, up to the last step
        self.longest = torch.zeros_like(self.skipped)  # row so far
        self._buffers = [buffer for network in networks for buffer in network.buffers()]
        self._before: list[Tensor] = []

    def begin(self) -> None:
        """Remember what the forward pass of a step may change."""
        self._before = [buffer.clone() for buffer in self._buffers]

    @torch.no_grad()
    def step(self, norms: Iterable[Tensor]) -> None:
        """Take the optimiser's step if every gradient norm, a scalar each, is finite; else skip and count it."""
        skip = ~(torch.stack(list(norms)).amax() < math.inf)  # of a NaN the largest is NaN
        self.optimizer.found_inf = skip.float()  # type: ignore[attr-defined]
        self.optimizer.step()
        for buffer, before in zip(self._buffers, self._before, strict=True):
            buffer.copy_(torch.where(skip, before, buffer))
        self.skipped += skip
        self.row.add_(1).mul_(skip)
        torch.maximum(self.longest, self.row, out=self.longest)

    def state_dict(self) -> dict[str, Tensor]:
        """The counts that a resumed run goes on with."""
        return {"skipped": self.skipped, "row": self.row}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned, in place, as a recorded step may hold the counts."""
        self.skipped.copy_(state["skipped"])
        self.row.copy_(state["row"])
        self.longest.copy_(state["row"])


def not_finite(networks: Mapping[str, nn.Module]) -> list[str]:
    """The names of networks of which a weight or buffer is not finite. Waits for the device."""
    largest = []
    for network in networks.values():
        values = [v.detach() for v in (*network.parameters(), *network.buffers()) if v.is_floating_point()]
        largest.append(nn.utils.get_total_norm(values, norm_type=float("inf")))
    finite = torch.isfinite(torch.stack(largest)).tolist()
    return [name for name, good in zip(networks, finite, strict=True) if not good]
