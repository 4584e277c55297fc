"""The gate before the agent: every tool helps somewhere, and the best chains gain, or learning has nothing to find."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..system.side_by_side import in_halves
from ..system.watch import Watch, nobody
from .environment import apply_tools, decibels
from .episodes import generator
from .fit_tools import gain_matrix
from .oracles import greedy_oracle
from .phase import Phase
from .workshop import Workshop

AT_ONCE = 32
_DRAWS = 11  # the stream of what is drawn here


class Gate(Phase):
    """Try every tool on held-out images after none to two random tools."""

    name = "gate"

    def __init__(self, workshop: Workshop) -> None:
        super().__init__(workshop)
        self.total = workshop.config.measure.gate_states
        self.done = 0
        self.tools = workshop.tools()
        self.gains: list[Tensor] = []  # [A, n] each
        self.oracle: list[Tensor] = []  # [n] each

    @torch.no_grad()
    def advance(self) -> dict[str, Any]:
        """The next few images."""
        numbers = range(self.done, min(self.done + AT_ONCE, self.total))
        damaged, clean = self.workshop.on_device(self.workshop.episodes("gate", held_out=True).batch(numbers))
        steps = self.config.agent.steps
        best = in_halves(lambda d, c: greedy_oracle(self.tools, d, c, steps), damaged, clean)
        self.oracle.append(torch.cat(best).cpu())
        rng = generator(self.config.seed, _DRAWS, self.done)
        before = torch.from_numpy(rng.integers(0, 3, len(numbers)))
        drawn = torch.from_numpy(rng.integers(0, len(self.tools), (2, len(numbers))))
        images = damaged
        for step in range(2):
            actions = torch.where(before > step, drawn[step], len(self.tools))
            images = apply_tools(self.tools, images, actions.to(images.device))
        now = decibels(images, clean)
        self.gains.append(torch.stack([decibels(tool(images), clean) - now for tool in self.tools]).cpu())
        self.done = numbers.stop
        return {}

    def finish(self) -> None:
        """Tell what was found, and what each tool does to damage of each band.

        Raises:
            UserError: a tool that hardly ever helps, or tools whose best chains gain too little.
        """
        measure, gains = self.config.measure, torch.cat(self.gains, 1)
        helps, high = (gains > 0).float().mean(1), gains.quantile(0.9, dim=1)
        oracle = float(torch.cat(self.oracle).mean())
        told = {
            name: {"helps": float(share), "high": float(top), "mean": float(mean)}
            for name, share, top, mean in zip(self.workshop.names, helps, high, gains.mean(1), strict=True)
        }
        self.workshop.results["matrix"] = gain_matrix(self.workshop, self.tools)
        self.workshop.results["gate"] = {"tools": told, "greedy_oracle": oracle}
        mend = "start anew with more fit.steps or wider bands, or measure.gate_share 0 and measure.gate_gain -99"
        useless = [
            f"the tool {name} helps {100 * found['helps']:.0f} % of images in mid-chain, and in the best tenth by "
            f"{found['high']:+.2f} dB"
            for name, found in told.items()
            if found["helps"] < measure.gate_share or (measure.gate_share and found["high"] <= 0)
        ]
        if useless:
            needed = f"{100 * measure.gate_share:.0f} % and more than 0 are needed"
            raise UserError(f"gate: {'; '.join(useless)} ({needed}): {mend}")
        if oracle < measure.gate_gain:
            raise UserError(
                f"gate: the best chains gain {oracle:.2f} dB, {measure.gate_gain:.2f} are needed for an agent to have "
                f"something to learn: {mend}"
            )

    def state_dict(self) -> dict[str, Any]:
        """See `Phase`."""
        return {"done": self.done, "gains": list(self.gains), "oracle": list(self.oracle)}

    def load_state_dict(self, saved: dict[str, Any], watch: Watch = nobody) -> None:
        """See `Phase`."""
        self.done, self.gains, self.oracle = saved["done"], list(saved["gains"]), list(saved["oracle"])
