"""The training step as a CUDA graph: recorded once per stage, then launched whole, without the host between kernels."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..errors import reason

Tensors = dict[str, Tensor]
WARM_UP = 3  # eager calls before the recording, so that libraries have chosen and allocated


@contextlib.contextmanager
def fixed_shapes(deterministic: bool = False) -> Iterator[None]:
    """Let cuDNN try its algorithms once per shape, which pays where the same shapes come again and again.

    Args:
        deterministic: take only algorithms that give the same bits every time, and try none, as which is the fastest
            depends on the moment.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = not deterministic, deterministic or before[1]
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before


class GraphMemory:
    """The memory of recorded steps, of which one at a time is kept: the graph of stage 1 ends where stage 2 begins."""

    def __init__(self) -> None:
        self._owner: Graphed | None = None

    def claim(self, owner: Graphed) -> None:
        """Free what another step recorded; called again, it is recorded again."""
        if self._owner is not None and self._owner is not owner:
            self._owner.forget()
        self._owner = owner


class Graphed:
    """A function of tensors, all of fixed shape, that is recorded after a few calls and from then on replayed.

    Every call does the function's work once, be it eager or replayed. What it returns is overwritten by the next call.
    A function that cannot be recorded is called as it is from then on.

    Args:
        device: the GPU of all tensors.
        function: takes and returns named CUDA tensors, these without a gradient: what they remember would hold on to
            the stream and the memory of the call. It must not wait for the device, and may change parameters and
            optimiser states in place.
        memory: shared with the steps of other stages.
        tell: takes a line for people where recording fails.
    """

    def __init__(
        self,
        device: torch.device,
        function: Callable[[Tensors], Tensors],
        memory: GraphMemory,
        tell: Callable[[str], None],
    ) -> None:
        self.device, self.function, self.memory, self.tell = device, function, memory, tell
        self.calls, self.eager = 0, False
        self.stream = torch.cuda.Stream(device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: Tensors = {}
        self.outputs: Tensors = {}

    def __call__(self, inputs: Tensors) -> Tensors:
        """Run on these inputs; they may be reused at once."""
        with torch.cuda.device(self.device):
            if self.calls < WARM_UP:
                return self._warm_up(inputs)
            if self.graph is None and not self.eager:
                self._record(inputs)
            if self.graph is None:
                return self.function(inputs)
            for name, value in inputs.items():
                self.inputs[name].copy_(value, non_blocking=True)
            self.graph.replay()
            return dict(self.outputs)

    def forget(self) -> None:
        """Free the graph and the memory of its tensors."""
        self.graph, self.inputs, self.outputs = None, {}, {}

    def _warm_up(self, inputs: Tensors) -> Tensors:
        self.calls += 1
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            outputs = self.function(inputs)
        torch.cuda.current_stream().wait_stream(self.stream)
        return outputs

    def _record(self, inputs: Tensors) -> None:
        self.memory.claim(self)
        torch.cuda.empty_cache()  # what the eager calls left: the graph has memory of its own
        graph = torch.cuda.CUDAGraph()
        try:
            self.inputs = {name: value.clone() for name, value in inputs.items()}
            with torch.cuda.graph(graph):  # records, and does nothing yet
                self.outputs = self.function(self.inputs)
        except RuntimeError as error:  # also a GPU without memory for it
            self.forget()
            self.eager = True
            self.tell(f"the step runs without a CUDA graph, and may be slower: {reason(error)}")
        else:
            self.graph = graph
