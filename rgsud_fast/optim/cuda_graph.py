"""The training step as a CUDA graph: recorded once per stage, then launched whole, without the host between kernels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
WARM_UP = 3  # eager calls before the recording, so that libraries have chosen and allocated


class Graphed:
    """A function of tensors, all of fixed shape, that is recorded after a few calls and from then on replayed.

    Every call does the function's work once, be it eager or replayed. What it returns is overwritten by the next call.

    Args:
        device: the GPU of all tensors.
        function: takes and returns named CUDA tensors; it must not wait for the device, and may change parameters and
            optimiser states in place.
    """

    def __init__(self, device: torch.device, function: Callable[[Tensors], Tensors]) -> None:
        self.device, self.function, self.calls = device, function, 0
        self.stream = torch.cuda.Stream(device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: Tensors = {}
        self.outputs: Tensors = {}

    def __call__(self, inputs: Tensors) -> Tensors:
        """Run on these inputs; they may be reused at once."""
        with torch.cuda.device(self.device):
            return dict(self._run(inputs))

    def _run(self, inputs: Tensors) -> Tensors:
        if self.calls < WARM_UP:
            self.calls += 1
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                outputs = self.function(inputs)
            torch.cuda.current_stream().wait_stream(self.stream)
            return outputs
        if self.graph is None:
            self.inputs = {name: value.clone() for name, value in inputs.items()}
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):  # records, and does nothing yet
                self.outputs = self.function(self.inputs)
        for name, value in inputs.items():
            self.inputs[name].copy_(value, non_blocking=True)
        self.graph.replay()
        return self.outputs
