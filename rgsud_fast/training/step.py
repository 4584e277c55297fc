"""One training step: losses of a stage, gradients, clipping, and both optimisers. The host never waits in it.

Where a gradient is not finite, that optimiser's step is skipped and counted (see `optim.skipping`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..config import Config
from ..config.parts import TOGETHER
from ..methods.guidance import Guidance
from ..methods.pasting import Pasted
from ..methods.rgsud import Networks, Step, discriminator_loss, stage1, stage2, weighted_terms, without_generator
from ..networks import NAFNet
from ..optim.adam import make_capturable, restore_moments, set_rate
from ..optim.cuda_graph import Graphed
from ..optim.gradient_norms import gradient_norms, keep_buffers
from ..optim.learning_rate import learning_rate
from ..optim.precision import in_precision, pick_precision
from ..optim.skipping import StepFilter
from ..system.distributed import Ranks


class TrainStep:
    """Changes the four networks' weights.

    Args:
        config: the run.
        nets: the networks, in place.
        device: where they are.
        ranks: the processes that train them together, each on its share of the crops; default: this one alone.
    """

    def __init__(self, config: Config, nets: Networks, device: torch.device, ranks: Ranks | None = None) -> None:
        self.config, self.device = config, device
        together = [{"name": name, "params": list(getattr(nets, name).parameters())} for name in TOGETHER]
        self._nets = nets
        self._together = [parameter for group in together for parameter in group["params"] if parameter.requires_grad]
        self._graphed = config.cuda_graph and device.type == "cuda"
        self.optimizer = torch.optim.Adam(together, fused=True)
        alone = [{"name": "discriminator", "params": list(nets.discriminator.parameters())}]
        self.discriminator_optimizer = torch.optim.Adam(alone, fused=True)
        make_capturable(self._optimizers, self._graphed, device)
        trained = [getattr(nets, name) for name in TOGETHER]
        self.filter = StepFilter(self.optimizer, device, trained)
        self.discriminator_filter = StepFilter(self.discriminator_optimizer, device, [nets.discriminator])
        precision = pick_precision(config.precision, device)
        self.plain_nets = Networks(*(in_precision(net, precision) for net in nets))
        # The loss of a stage sends no gradient to the discriminator's weights, so there its wrapper must not wait.
        ranks, known = ranks or Ranks(device), isinstance(nets.derainer, NAFNet)  # of a user's own nothing is known
        self.discriminator_nets = Networks(
            ranks.data_parallel(self.plain_nets.derainer, known), *map(ranks.data_parallel, self.plain_nets[1:])
        )
        self.stage_nets = self.discriminator_nets._replace(discriminator=self.plain_nets.discriminator)
        self._guidance = Guidance(fidelity=config.reward.fidelity)
        self._generator_sides = self._sides()

    def guide(self, scale: float, score: Callable[[Tensor, Tensor], Tensor] | None) -> None:
        """What a score with a map adds to stage 2 from now on; see `Guidance`. A recorded step is recorded anew."""
        self._guidance = self._guidance._replace(scale=scale, score=score)
        self._generator_sides = self._sides()

    def generator_side(self, stage: int, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step of every optimiser on the crops of an iteration (see `Feed.images`).

        Returns:
            The `loss` of derainer, U-Net and generator, its unweighted terms, the discriminator's loss and the
            gradients' norms, scalars. With `cuda_graph` later steps overwrite them.
        """
        return self._generator_sides[stage](inputs)

    def term_gradients(self, stage: int, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """How hard each loss term pulls at each network on the crops of an iteration; see `gradient_norms`.

        Costs a forward and a backward pass per term and changes nothing. Of several processes each measures its own
        crops, without the others.
        """
        random = torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else [])
        with random, keep_buffers(self._nets):
            step = self._losses(stage, self.plain_nets, inputs)
            trained = {name: getattr(self._nets, name) for name in TOGETHER}
            return gradient_norms(weighted_terms(step.terms, self.config.loss), trained)

    def discriminator_side(self, rainy: Tensor, fakes: Tensor) -> dict[str, Tensor]:
        """One step of the discriminator; returns its loss and gradient norm."""
        self.discriminator_filter.begin()
        loss = discriminator_loss(self.discriminator_nets, rainy, fakes)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norms = self._clip(self.discriminator_optimizer)
        self.discriminator_filter.step(norms.values())
        return {"discriminator": loss, **norms}

    def set_rates(self, step: int) -> None:
        """Give both optimisers the learning rates of an iteration."""
        rate = learning_rate(self.config, step)
        set_rate(self.optimizer, rate)
        set_rate(self.discriminator_optimizer, rate * self.config.optim.discriminator_ratio)

    @property
    def rate(self) -> float:
        """The present learning rate of derainer, U-Net and generator."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def filters(self) -> dict[str, StepFilter]:
        """The filters of steps, by the networks that they watch."""
        together = ", ".join(TOGETHER)
        return {together: self.filter, "discriminator": self.discriminator_filter}

    @property
    def settled(self) -> bool:
        """Whether both optimisers took their last step. Waits for the device."""
        return not any(step_filter.row for step_filter in self.filters.values())

    def state_dict(self) -> dict[str, Any]:
        """The optimisers' states, and how often their steps were skipped."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "guards": [step_filter.state_dict() for step_filter in self.filters.values()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; whether steps are recorded may differ from the saved run."""
        restore_moments(self.optimizer, state["optimizer"])
        restore_moments(self.discriminator_optimizer, state["discriminator_optimizer"])
        make_capturable(self._optimizers, self._graphed, self.device)
        for step_filter, saved in zip(
            self.filters.values(), state.get("guards", ()), strict=False
        ):  # none in older files
            step_filter.load_state_dict(saved)

    def _sides(self) -> dict[int, Callable[[dict[str, Tensor]], dict[str, Tensor]]]:
        """The generator side of each stage, recorded as a graph where it is asked for."""
        sides = {1: self._generator_side_of_stage1, 2: self._generator_side_of_stage2}
        if not self._graphed:
            return {**sides}
        return {stage: Graphed(self.device, function) for stage, function in sides.items()}

    @property
    def _optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        return self.optimizer, self.discriminator_optimizer

    def _generator_side_of_stage1(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return self._descend(1, inputs)

    def _generator_side_of_stage2(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return self._descend(2, inputs)

    def _losses(self, stage: int, nets: Networks, inputs: dict[str, Tensor]) -> Step:
        pasted = Pasted(inputs["pasted"], inputs["backgrounds"]) if "pasted" in inputs else None
        guidance = self._guidance._replace(spoiled=inputs.get("spoiled"))
        if not self.config.loss.generator:
            rainy, rewards, improved, rewarded = map(inputs.get, ("rainy", "rewards", "improved", "rewarded"))
            return without_generator(nets, self.config.loss, pasted, rainy, rewards, improved, rewarded, guidance)
        if stage == 1:
            return stage1(nets, inputs["rainy"], inputs["clean"], self.config.loss, pasted)
        rainy, clean, rewards, improved = (inputs[name] for name in ("rainy", "clean", "rewards", "improved"))
        options = self.config.loss, self.config.reward.switch, inputs.get("rewarded"), pasted, guidance
        return stage2(nets, rainy, clean, rewards, improved, *options)

    def _descend(self, stage: int, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        self.filter.begin()
        step = self._losses(stage, self.stage_nets, inputs)
        self.optimizer.zero_grad(set_to_none=True)
        step.loss.backward(inputs=self._together)
        norms = self._clip(self.optimizer)
        self.filter.step(norms.values())
        everything = self.config.loss.discriminator_fakes == "all"
        done = {"loss": step.loss, **step.terms, **norms}
        if not self.config.loss.generator:
            return done
        shown = step.fakes if everything else step.fakes[: len(inputs["rainy"])]
        return done | self.discriminator_side(inputs["reals"], shown)

    def _clip(self, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """Scale down the gradient of each network whose norm exceeds the limit; returns the norms before that."""
        limit = self.config.optim.clip_norm or math.inf
        groups = {group["name"]: group["params"] for group in optimizer.param_groups}  # each holds one network
        reached = {name: some for name, some in groups.items() if any(p.grad is not None for p in some)}
        return {f"norm_{name}": nn.utils.clip_grad_norm_(some, limit) for name, some in reached.items()}
