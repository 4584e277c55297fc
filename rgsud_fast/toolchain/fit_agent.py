"""The agent's phase: rounds of episodes side by side, each followed by the updates that its steps earn."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from ..errors import UserError
from ..networks.toolbox import AGENT, Agent
from ..networks.toolbox.agent import NONE
from ..networks.toolbox.box import save_agent
from ..optim.adam import set_rate
from ..optim.moving_average import MovingAverage
from ..system.prefetch import Prefetch, by_batches
from ..system.side_by_side import in_halves, learn_from
from ..system.watch import Watch, nobody
from .dqn import dqn_loss, falling_rate, falling_share, offers_loss
from .environment import Round, join_rounds, play, states_of
from .episodes import generator
from .phase import Phase, copy_state
from .replay import Batch, Replay
from .workshop import Workshop

_ACTIONS, _SAMPLES = 13, 14  # streams of what is drawn here
LINES = 200  # of the log, about


class FitAgent(Phase):
    """Recurrent double deep Q learning, or learning of what every tool gains at once.

    Everything scheduled follows from the number of environment steps.
    """

    name = "agent"

    def __init__(self, workshop: Workshop) -> None:
        super().__init__(workshop)
        agent = self.config.agent
        self.total, self.done, self.rounds = agent.total, 0, 0
        self.tools = workshop.tools()
        self.episodes = workshop.variety("training", agent.turns)
        self._patches = Prefetch(by_batches(self.episodes.batch, agent.parallel))
        self.agent: Agent = workshop.new_agent()
        self.target = copy.deepcopy(self.agent).requires_grad_(False)
        self.average = MovingAverage(self.agent, agent.average) if agent.average else None
        self._learning = [p for p in self.agent.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(self._learning, lr=agent.learning_rate)
        self.replay = Replay(
            -(-agent.replay // agent.steps),
            agent.parallel,
            agent.steps,
            agent.side,
            self._remake,
            agent.replay_gib,
            workshop.device,
            self.agent.tools if agent.every_tool else 0,
        )

    def advance(self) -> dict[str, Any]:
        """Play one round, then learn."""
        before, agent = self.done, self.config.agent
        numbers = torch.arange(self.rounds * agent.parallel, (self.rounds + 1) * agent.parallel)
        damaged, clean = self.workshop.on_device(self._patches(self.rounds))
        share = falling_share(before, agent.explore_after, agent.explore_over, agent.epsilon)
        rng = generator(self.config.seed, _ACTIONS, self.rounds)
        chance = torch.from_numpy(rng.random((agent.parallel, agent.steps))).to(damaged.device)
        drawn = torch.from_numpy(rng.integers(0, self.agent.tools + 1, chance.shape)).to(damaged.device)

        def half(damaged: Tensor, clean: Tensor, chance: Tensor, drawn: Tensor) -> Round:
            def decide(worth: Tensor, step: int) -> Tensor:
                return torch.where(chance[:, step] < share, drawn[:, step], worth.argmax(1))

            options = {"ends_below": True, "every_tool": agent.every_tool}
            return play(self.agent, self.tools, damaged, clean, agent.steps, decide, **options)

        played = join_rounds(in_halves(half, damaged, clean, chance, drawn))
        self.replay.add(numbers, played)
        self.done += int(played.lengths.sum())
        self.rounds += 1
        updates = self._updates(before)
        if agent.every_tool and self._updates(0).start in updates:
            self._begin_at_the_mean()
        losses = [self._update(at) for at in updates]
        every = max(self.total // LINES, 1)
        if before // every == self.done // every or not losses:
            return {}
        gain = float(played.rewards.sum(1).mean())
        return {"loss": sum(losses) / len(losses), "gain_while_exploring": gain, "share_of_random_actions": share}

    @torch.no_grad()
    def _begin_at_the_mean(self) -> None:
        """Let a new agent expect of every tool what it gained on average so far.

        A tool that brightens photographs of the day costs 7 dB; at Adam's pace a bias comes there in 7,000 updates. The
        network grew its features instead, to 50 times what they were, and the memory they saturated never moved again:
        all images got the same worth.
        """
        offers = self.replay.offers[: len(self.replay)][self.replay.actions[: len(self.replay)] != NONE]
        self.agent.head.bias[: self.agent.tools] += offers.mean(0).to(self.workshop.device)

    def _updates(self, before: int) -> range:
        """The environment steps since `before` at which the agent learns."""
        every = self.config.agent.update_every
        first = max(before, self.config.agent.explore_after) // every * every + every
        return range(first, self.done + 1, every)

    def _update(self, at: int) -> float:
        """One update, that of environment step `at`."""
        agent = self.config.agent
        batch = self.replay.sample(agent.batch, generator(self.config.seed, _SAMPLES, at))

        def loss_of(*half: Tensor) -> Tensor:
            some = Batch(*half)
            if agent.every_tool:
                loss = offers_loss(self.agent, some)
            else:
                loss = dqn_loss(self.agent, self.target, some, agent.discount, agent.double)
            return loss * (len(some.actions) / agent.batch)

        loss = learn_from(loss_of, self._learning, *batch)
        self.demand_finite(loss, "agent")
        if agent.clip_norm:
            clip_grad_norm_(self.agent.parameters(), agent.clip_norm)
        rate = falling_rate(at, self.total, agent.learning_rate, agent.final_learning_rate, agent.halve_every)
        set_rate(self.optimizer, rate)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.agent)
        if at // agent.target_every > (at - agent.update_every) // agent.target_every:
            self.target.load_state_dict(self.agent.state_dict())
        return loss.item()

    def _remake(self, numbers: Tensor, actions: Tensor) -> Tensor:
        """The images of episodes that are played again."""
        damaged = self.episodes.batch(numbers.tolist())[0].to(self.workshop.device)
        actions = actions.to(self.workshop.device)
        return torch.cat(in_halves(lambda some, taken: states_of(self.tools, some, taken), damaged, actions))

    def finish(self) -> None:
        """Write the agent."""
        learned = self.agent if self.average is None else cast(Agent, self.average.module)
        save_agent(self.workshop.folder.path / AGENT, learned, self.workshop.names)
        self.workshop.results["agent"] = {"environment_steps": self.done, "episodes": self.replay.added}

    def state_dict(self) -> dict[str, Any]:
        """See `Phase`; images are played again."""
        return {
            "done": self.done,
            "rounds": self.rounds,
            "agent": copy_state(self.agent),
            "target": copy_state(self.target),
            "optimizer": self.optimizer.state_dict(),
            "average": {} if self.average is None else copy_state(self.average),
            "replay": self.replay.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any], watch: Watch = nobody) -> None:
        """See `Phase`."""
        self.done, self.rounds = saved["done"], saved["rounds"]
        for name in ("agent", "target", "optimizer"):
            getattr(self, name).load_state_dict(saved[name])
        average = saved.get("average", {})
        if bool(average) != (self.average is not None):
            raise UserError("agent.average is not what this agent began with: give it back, or --agent-anew")
        if self.average is not None:
            self.average.load_state_dict(average)
        self.replay.load_state_dict(saved["replay"], watch)
