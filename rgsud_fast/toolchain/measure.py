"""The last phase: the ladder of every severity, on held-out photographs, before and after joint tuning."""

from __future__ import annotations

from typing import Any

from ..config.toolbox import SEVERITIES
from ..networks.toolbox import AGENT
from ..networks.toolbox.box import read_agent
from ..system.watch import Watch, nobody
from .ladder import Rivals, actions_of, ladder, play_all, rivals_of
from .oracles import greedy_oracle, in_parts
from .phase import Phase
from .workshop import Workshop


class Measure(Phase):
    """First the rivals, on training photographs; then a severity at a time."""

    name = "measurement"
    total = 1 + len(SEVERITIES)

    def __init__(self, workshop: Workshop) -> None:
        super().__init__(workshop)
        self.done, self.rivals = 0, Rivals((), ())
        self.ladders: dict[str, dict[str, Any]] = {}
        self.tools, self.tuned = workshop.tools(), workshop.tools(tuned=True)
        self.agent = read_agent(workshop.folder.path / AGENT, workshop.names).to(workshop.device)

    def advance(self) -> dict[str, Any]:
        """One severity."""
        measure, steps = self.config.measure, self.config.agent.steps
        if self.done == 0:
            pairs = self.workshop.on_device(self.workshop.episodes("reference").mixed(range(measure.search_episodes)))
            self.rivals = rivals_of(self.tools, *pairs, steps)
            self.done = 1
            return {}
        severity = SEVERITIES[self.done - 1]
        episodes = self.workshop.episodes("held out", held_out=True)
        damaged, clean = self.workshop.on_device(episodes.batch(range(measure.episodes), severity))
        found = ladder(
            self.agent,
            self.tools,
            self.rivals,
            damaged,
            clean,
            seed=self.config.seed,
            steps=steps,
            searched=measure.search_episodes,
        )
        if "joint" in self.workshop.results:
            played = play_all(self.agent, self.tuned, damaged, clean, steps)
            best = in_parts(lambda d, c: greedy_oracle(self.tuned, d, c, steps), damaged, clean)
            found |= {"agent_joint": float(played.rewards.sum(1).mean()), "greedy_joint": float(best.mean())}
            found |= {f"{name}_joint": value for name, value in actions_of(played, self.agent).items()}
        self.ladders[severity] = found
        self.done += 1
        return {f"agent_{severity}": found["agent"]}

    def finish(self) -> None:
        """The ladders, with the means over severities."""
        numbers = [name for name, value in self.ladders[SEVERITIES[0]].items() if isinstance(value, float)]
        means = {name: sum(self.ladders[s][name] for s in SEVERITIES) / len(SEVERITIES) for name in numbers}
        names = {kind: [self.workshop.names[i] for i in chain] for kind, chain in self.rivals._asdict().items()}
        self.workshop.results["ladder"] = {**self.ladders, "mean": means}
        self.workshop.results["rivals"] = names

    def state_dict(self) -> dict[str, Any]:
        """See `Phase`."""
        return {"done": self.done, "rivals": [list(chain) for chain in self.rivals], "ladders": self.ladders}

    def load_state_dict(self, saved: dict[str, Any], watch: Watch = nobody) -> None:
        """See `Phase`."""
        self.done, self.ladders = saved["done"], dict(saved["ladders"])
        single, fixed = saved["rivals"]
        self.rivals = Rivals(tuple(single), tuple(fixed))
