"""A toolbox's agent as ONNX, one step at a time: the loop, and the tools, are the other program's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from ..networks.toolbox import Agent
from ..networks.toolbox.agent import MEMORY, NONE, one_hot

GIVEN = ("image", "previous", "hidden", "cell")
MADE = ("worth", "next_hidden", "next_cell")


class Step(nn.Module):
    """One look of an agent, its memory written out as sums and products."""

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self.agent = agent

    def forward(self, image: Tensor, previous: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The worth of every action.

        Args:
            image: [N, 3, side, side].
            previous: the action before, [N] int64; -1 before the first.
            hidden, cell: the memory, [N, 50] each; zeros before the first.

        Returns:
            Q [N, A + 1], and the memory for the next step.
        """
        x = torch.cat([self.agent.look(image), one_hot(previous, self.agent.tools)], 1)
        memory = self.agent.memory
        bias = memory.get_parameter("bias_ih_l0") + memory.get_parameter("bias_hh_l0")
        gates = F.linear(x, memory.get_parameter("weight_ih_l0"), bias)
        gates = gates + F.linear(hidden, memory.get_parameter("weight_hh_l0"))
        enter, keep, new, leave = gates.chunk(4, 1)
        cell = keep.sigmoid() * cell + enter.sigmoid() * new.tanh()
        hidden = leave.sigmoid() * cell.tanh()
        return self.agent.head(hidden), hidden, cell


def write_onnx(agent: Agent, path: Path, opset: int) -> Callable[..., tuple[Tensor, ...]]:
    """Write `Step` with the number of images free; returns what the file computes."""
    import onnx
    import onnxruntime

    free = [{0: Dim("batch")}] * len(GIVEN)
    options: dict[str, Any] = {"input_names": GIVEN, "output_names": MADE, "opset_version": opset, "verbose": False}
    program: Any = torch.onnx.export(Step(agent), example(agent, 2), dynamo=True, dynamic_shapes=free, **options)
    program.save(str(path), external_data=False)
    onnx.checker.check_model(onnx.load(str(path)), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(*values: Tensor) -> tuple[Tensor, ...]:
        made = session.run(None, {name: value.numpy() for name, value in zip(GIVEN, values, strict=True)})
        return tuple(torch.from_numpy(value) for value in made)

    return run


def example(agent: Agent, count: int) -> tuple[Tensor, ...]:
    """Images, actions and memories that are drawn, the first of them at the beginning of an episode."""
    generator = torch.Generator().manual_seed(count)
    images = torch.rand(count, 3, agent.side, agent.side, generator=generator)
    previous = torch.randint(0, agent.tools, (count,), generator=generator)
    previous[0] = NONE
    memories = torch.rand(2, count, MEMORY, generator=generator) * 2 - 1
    return images, previous, memories[0], memories[1]


@torch.no_grad()
def difference(agent: Agent, run: Callable[..., tuple[Tensor, ...]]) -> float:
    """The largest difference between a file and the agent over three steps of one, two and five episodes."""
    worst = 0.0
    for count in (1, 2, 5):
        images, previous, _, _ = example(agent, count)
        ours, theirs = None, (torch.zeros(count, MEMORY), torch.zeros(count, MEMORY))
        for _ in range(3):
            worth, ours = agent(images[:, None], previous[:, None], ours)
            made, *after = run(images, previous, *theirs)
            theirs = (after[0], after[1])
            worst = max(worst, float((made - worth[:, 0]).abs().max() / worth.abs().max().clamp_min(1)))
            previous = worth[:, 0].argmax(1).clamp_max(agent.tools - 1)
    return worst
