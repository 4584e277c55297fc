"""The moving average of a network's weights, which is used in its place."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..ops._averaging import Averaging


class MovingAverage(AveragedModel):
    """PyTorch's AveragedModel with a decay that warms up, so that the random start is soon forgotten.

    Update n, from 0, keeps min(decay, (1 + n) / (10 + n)) of the average; buffers are copied. AveragedModel's own
    update reads its count on the host, which then waits for the GPU at every iteration; this one does not.

    Args:
        network: what is averaged, in float32.
        decay: share of the average that an update keeps in the end.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network)
        self.decay = decay
        self._averaging = Averaging()
        self.n_averaged = self.n_averaged.to(next(network.parameters()).device)

    @torch.no_grad()
    def update_parameters(self, network: nn.Module, skip: Tensor | None = None) -> None:
        """Draw the average to the network's present weights, or leave it where `skip`, a bool scalar, is true."""
        share = (9 / (10 + self.n_averaged)).clamp(min=1 - self.decay)
        if skip is not None:
            share = torch.where(skip, 0, share)
            self.n_averaged += ~skip
        else:
            self.n_averaged += 1
        averaged = [parameter.detach() for parameter in self.module.parameters()]
        self._averaging(averaged, [parameter.detach() for parameter in network.parameters()], share)
        for mine, current in zip(self.module.buffers(), network.buffers(), strict=True):
            mine.copy_(current)
