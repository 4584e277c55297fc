"""From a state to the network that it was taken of."""

from __future__ import annotations

import torch
from torch import Tensor

from .clip import like_clip
from .network import FinPercepNet, Gate, ScoreNet


def like(state: dict[str, Tensor], gate: Gate = "kept") -> ScoreNet:
    """The network that a state was taken of, ready to be used: without gradients, with copies of its numbers.

    Raises:
        KeyError, RuntimeError, ValueError: it is the state of something else.
    """
    network: ScoreNet
    if "trunk.conv3.weight" in state:
        network = like_clip(state, gate)
    else:
        widths = [len(state["first.weight"]), *(len(state[f"down.{i}.0.weight"]) for i in range(3))]
        with torch.device("meta"):  # takes no memory but what the state holds, and draws nothing
            network = FinPercepNet(widths, len(state["score.0.weight"]), gate)
    copies = {name: value.to(torch.float32, copy=True) for name, value in state.items()}
    network.load_state_dict(copies, assign=True)
    return network.eval().requires_grad_(False)
