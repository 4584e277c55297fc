"""Adam: its learning rate set, its moments restored, its step made fit for a CUDA graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every group this learning rate, times its `ratio` where it has one, in place where it lies on the device."""
    for group in optimizer.param_groups:
        own = rate * group.get("ratio", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def restore_moments(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Restore Adam's moments from its `state_dict`; its settings stay the code's own, whatever the file says.

    Raises:
        ValueError, KeyError: they are of other parameters. Adam's fused kernel does not look: it would write where
            nothing of its own is.
    """
    groups = optimizer.state_dict()["param_groups"]
    counts = [[len(group["params"]) for group in some] for some in (groups, saved["param_groups"])]
    if counts[0] != counts[1]:
        raise ValueError(f"the optimiser has {counts[0]} parameters, {counts[1]} in the checkpoint")
    optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})
    for parameter, state in optimizer.state.items():
        if not isinstance(parameter, Tensor):
            raise ValueError(f"the optimiser has no parameter {parameter!r:.40}")
        shapes = [list(state[name].shape) for name in ("exp_avg", "exp_avg_sq", "step")]
        if shapes != [list(parameter.shape), list(parameter.shape), []]:
            raise ValueError(f"moments and step of a parameter {list(parameter.shape)} are {shapes}")


def make_capturable(optimizers: Iterable[Optimizer], graphed: bool, device: torch.device) -> None:
    """Let the optimisers be recorded as part of a step or not: a recorded one reads its learning rate on the device."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            rate = float(group["lr"])
            group["lr"] = torch.tensor(rate, device=device) if graphed else rate
            group["capturable"] = graphed
