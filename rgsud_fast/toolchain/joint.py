"""Joint tuning: the tools learn on the chains that the agent makes of them; the agent itself stays as it is."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from ..config.toolbox import Loss
from ..networks.toolbox import AGENT, Tool
from ..networks.toolbox.box import read_agent, save_tool
from ..optim.adam import set_rate
from ..system.prefetch import Prefetch, by_batches
from ..system.side_by_side import learn_from
from ..system.watch import Watch, nobody
from .environment import Round, errors, play
from .fit_tools import gain_matrix, one_cycle
from .oracles import in_parts
from .phase import Phase, copy_state
from .workshop import Workshop


class TuneJointly(Phase):
    """Algorithm 1 of RL-Restore, whose code was not published.

    For each batch the agent chooses chains with the present tools. The error of their results is followed back through
    the chains, not through the choice, and each tool's gradient is divided by the number of its uses.
    """

    name = "joint tuning"

    def __init__(self, workshop: Workshop) -> None:
        super().__init__(workshop)
        self.total = workshop.config.joint.steps
        self._patches = Prefetch(by_batches(workshop.variety("joint").mixed, self.config.joint.batch))
        self.done = 0
        self.tools = workshop.tools()
        self.agent = read_agent(workshop.folder.path / AGENT, workshop.names).to(workshop.device)
        self.tuned = [i for i, tool in enumerate(self.tools) if isinstance(tool, Tool)]  # others stay as they are
        for i in self.tuned:
            self.tools[i].requires_grad_(True)
        self._learning = [p for i in self.tuned for p in self.tools[i].parameters()]
        rate = self.config.joint.learning_rate
        self.optimizer = torch.optim.Adam(self._learning, lr=rate) if self._learning else None
        self.best, self.misses, self.before = -math.inf, 0, math.nan
        self.weights = self._copies()

    @property
    def ended(self) -> bool:
        """Also where nothing gains any more, or nothing can be tuned; one cycle gains most at its end."""
        joint = self.config.joint
        return self.optimizer is None or super().ended or (self.misses >= joint.patience and not joint.one_cycle)

    def advance(self) -> dict[str, Any]:
        """One step, and at times a look at other episodes; the first one before it."""
        joint = self.config.joint
        if self.done == 0:
            self.before = self.best = self._look()
        damaged, clean = self.workshop.on_device(self._patches(self.done))
        taken: list[Tensor] = []  # actions of the halves, whichever is done first: they are only counted

        def loss_of(some: Tensor, truth: Tensor) -> Tensor:
            played = play(self.agent, self.tools, some, truth, self.config.agent.steps, differentiable=True)
            taken.append(played.actions)
            return chain_loss(played, truth, self.agent.stop, self.config.fit.loss)

        loss, actions = learn_from(loss_of, self._learning, damaged, clean), torch.cat(taken)
        if any(bool((actions == i).any()) for i in self.tuned):
            self.demand_finite(loss, "joint tuning")
            assert any(parameter.grad is not None for parameter in self._learning)  # played so that it can be followed
            self._step(actions)
        self.done += 1
        if self.done % joint.look_every and self.done < self.total:
            return {}
        gain = self._look()
        self.misses = 0 if gain > self.best + joint.least_gain else self.misses + 1
        if gain > self.best:
            self.best, self.weights = gain, self._copies()
        return {"gain_of_chains": gain}

    def _step(self, actions: Tensor) -> None:
        assert self.optimizer is not None  # or it had ended
        joint = self.config.joint
        for i in self.tuned:
            uses = int((actions == i).sum())
            parameters = list(self.tools[i].parameters())
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad /= max(uses, 1)
            if uses and joint.clip_norm:
                clip_grad_norm_(parameters, joint.clip_norm)
        if joint.one_cycle:
            set_rate(self.optimizer, one_cycle(self.done / self.total, joint.learning_rate))
        self.optimizer.step()

    def _look(self) -> float:
        """Mean decibels that the agent gains on training photographs, damage of all severities."""
        episodes = self.workshop.episodes("looks")
        pairs = self.workshop.on_device(episodes.mixed(range(self.config.joint.look_episodes)))
        steps = self.config.agent.steps
        gains = in_parts(lambda d, c: play(self.agent, self.tools, d, c, steps).rewards.sum(1), *pairs)
        return float(gains.mean())

    def _copies(self) -> dict[str, dict[str, Tensor]]:
        return {self.workshop.names[i]: copy_state(self.tools[i]) for i in self.tuned}

    def finish(self) -> None:
        """Write the tools at their best beside the originals, and what became of each in its own band."""
        if not self.done:
            return
        for i in self.tuned:
            tool = self.config.tools[i]
            self.tools[i].load_state_dict(self.weights[tool.name])
            save_tool(self.workshop.tool_path(tool, tuned=True), self.tools[i])
        matrix = gain_matrix(self.workshop, self.tools)
        own = {name: row[name] for name, row in matrix.items() if name in row}
        found = {"before": self.before, "after": self.best, "own_band": own, "matrix": matrix}
        self.workshop.results["joint"] = found

    def state_dict(self) -> dict[str, Any]:
        """See `Phase`."""
        state = {"done": self.done, "best": self.best, "misses": self.misses, "before": self.before}
        networks = {"weights": self.weights, "tools": self._copies()}
        return state | networks | {"optimizer": self.optimizer.state_dict() if self.optimizer else {}}

    def load_state_dict(self, saved: dict[str, Any], watch: Watch = nobody) -> None:
        """See `Phase`."""
        self.done, self.best, self.misses, self.before = (saved[n] for n in ("done", "best", "misses", "before"))
        self.weights = {
            name: {key: value.to(self.workshop.device) for key, value in tensors.items()}
            for name, tensors in saved["weights"].items()
        }
        for i in self.tuned:
            self.tools[i].load_state_dict(saved["tools"][self.workshop.names[i]])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(saved["optimizer"])


def chain_loss(played: Round, clean: Tensor, stop: int, loss: Loss = "mse") -> Tensor:
    """Sum over the images that used a tool of the error after their chains.

    Args:
        played: what became of N images, differentiable: `final` [N, 3, S, S], `actions` [N, T].
        clean: [N, 3, S, S].
        stop: the number of the action that stops.
        loss: which error, see `errors`.

    Returns:
        A scalar, differentiable in the tools.
    """
    used = played.actions[:, 0] < stop
    return errors(played.final, clean, loss)[used].sum()
