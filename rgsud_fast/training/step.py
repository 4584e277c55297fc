"""One training step: losses of a stage, gradients, clipping, and both optimisers. The host never waits in it.

Where a gradient is not finite, that optimiser's step is skipped and counted (see `optim.skipping`).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..config import Config
from ..methods import rgsud
from ..methods.build import METHODS
from ..methods.guidance import Guidance
from ..methods.method import Judged, Paced, Step
from ..networks.derainers.moe import MoENet
from ..networks.known import classes_of
from ..ops._backends import active_backend
from ..ops._step_weights import StepWeights
from ..optim.adam import make_capturable, restore_moments, set_rate
from ..optim.cuda_graph import Graphed, GraphMemory, fixed_shapes
from ..optim.fake_buffer import FakeBuffer, join
from ..optim.gradient_norms import gradient_norms, keep_buffers
from ..optim.learning_rate import learning_rate
from ..optim.precision import in_precision, pick_precision
from ..optim.skipping import StepFilter
from ..system.distributed import Ranks

BALANCE = "balance"  # the term that a derainer with experts adds to those of any method


class TrainStep:
    """Changes the weights of a method's networks.

    Args:
        config: the run.
        nets: the networks, in place, a NamedTuple.
        device: where they are.
        ranks: the processes that train them together, each on its share of the crops; default: this one alone.
        method: gives the losses; default: RGSUD.
    """

    def __init__(
        self, config: Config, nets: Any, device: torch.device, ranks: Ranks | None = None, method: Any = rgsud
    ) -> None:
        self.config, self.device, self.method = config, device, method
        self.ranks = ranks or Ranks(device)
        self._nets = nets
        self.notices: list[str] = []  # for people: why the step runs otherwise than asked for
        self._measures = True
        self._moe = nets.derainer if isinstance(nets.derainer, MoENet) else None
        self._alone = False  # while gradients are measured, which each process does by itself
        for layer in self._moe.layers.values() if self._moe is not None else ():
            layer.rank = self.ranks.rank
        self._graphed = self._may_record()
        self.optimizer, self._together, self.filter = self._optimiser(method.TOGETHER)
        self.discriminator_optimizer, self._judges, self.discriminator_filter = self._optimiser(method.JUDGES)
        make_capturable(self._optimizers, self._graphed, device)
        places = config.optim.fake_buffer // config.batch
        self.buffers = {name: FakeBuffer(places) for name in method.JUDGES} if places else {}
        precision = pick_precision(config.precision, device)
        self.ranks.broadcast_weights(nets)
        self.stage_nets = type(nets)(*(in_precision(net, precision) for net in nets))
        low = precision != torch.float32 and device.type == "cuda"
        self._weights = StepWeights(low and active_backend("conv_bias_lrelu", "cuda") == "triton")
        self._guidance = Guidance(fidelity=config.reward.fidelity)
        self._generator_sides = self._sides()

    def guide(self, scale: float, score: Callable[[Tensor, Tensor], Tensor] | None) -> None:
        """What a score with a map adds to stage 2 from now on; see `Guidance`. A recorded step is recorded anew."""
        self._guidance = self._guidance._replace(scale=scale, score=score)
        self._generator_sides = self._sides()

    def _sides(self) -> dict[int, Callable[[dict[str, Tensor]], dict[str, Tensor]]]:
        """The generator side of each stage, recorded as a graph where it is asked for."""
        sides = {1: self._generator_side_of_stage1, 2: self._generator_side_of_stage2}
        if not self._graphed:
            return {**sides}
        memory, tell = GraphMemory(), self.notices.append
        return {stage: Graphed(self.device, function, memory, tell) for stage, function in sides.items()}

    def _losses(self, stage: int, inputs: dict[str, Tensor]) -> Step:
        guidance = self._guidance._replace(spoiled=inputs.get("spoiled"))
        moe = self._moe
        if moe is not None:  # UniRain's own training is mature enough from the start
            moe.route(softly=stage == 1 and self.method.NAME != "unirain")
        with _frozen(getattr(self._nets, name) for name in self.method.JUDGES):  # what they learn is another loss
            step: Step = self.method.step(self.stage_nets, stage, inputs, self.config, guidance)
        if moe is None:
            return step
        balance = moe.balance(self._over_ranks if self.ranks.count > 1 and not self._alone else None)
        weight = self.config.network.moe.balance
        return step._replace(loss=step.loss + weight * balance, terms={**step.terms, BALANCE: balance})

    def _over_ranks(self, share: Tensor) -> Tensor:
        return self.ranks.all_reduce(share) / self.ranks.count

    def _optimiser(self, names: Sequence[str]) -> tuple[torch.optim.Adam, list[nn.Parameter], StepFilter]:
        """Adam with a group for each network, the parameters that it trains, and its filter of steps."""
        networks = [getattr(self._nets, name) for name in names]
        paces = self.method.paces(self.config) if isinstance(self.method, Paced) else {}
        own = {name: pace._asdict() for name, pace in paces.items()}
        groups = [
            {"name": name, "params": list(net.parameters())} | own.get(name, {})
            for name, net in zip(names, networks, strict=True)
        ]
        groups = groups or [{"name": "none", "params": []}]  # a method without judges
        trained = [parameter for group in groups for parameter in group["params"] if parameter.requires_grad]
        optim = self.config.optim
        kind = torch.optim.AdamW if optim.algorithm == "adamw" else torch.optim.Adam
        optimizer = kind(groups, betas=optim.betas, weight_decay=optim.weight_decay, fused=True)
        return optimizer, trained, StepFilter(optimizer, self.device, networks)

    def generator_side(self, stage: int, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step of every optimiser on the crops of an iteration (see `Feed.images`).

        Returns:
            The `loss` of the networks that are trained together, its unweighted terms, the judges' losses and the
            gradients' norms, scalars. With `cuda_graph` later steps overwrite them.
        """
        with fixed_shapes(self.config.deterministic):
            return self._generator_sides[stage](inputs)

    def term_gradients(self, stage: int, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """How hard each loss term pulls at each network on the crops of an iteration; see `gradient_norms`.

        Costs a forward and a backward pass per term and changes nothing. Of several processes each measures its own
        crops, without the others. Where the GPU has no memory for it, nothing is measured from then on.
        """
        if not self._measures:
            return {}
        try:
            return self._term_gradients(stage, inputs)
        except torch.OutOfMemoryError:
            self._measures = False
            self.notices.append("the GPU has no memory to measure the gradients of loss terms: log_gradients is off")
            return {}

    def _term_gradients(self, stage: int, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        random = torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else [])
        with random, keep_buffers(self._nets):
            self._alone = True
            try:
                step = self._losses(stage, inputs)
            finally:
                self._alone = False
            trained = {name: getattr(self._nets, name) for name in self.method.TOGETHER}
            terms = {name: term for name, term in step.terms.items() if name != BALANCE}
            return gradient_norms(self.method.weighted(terms, self.config), trained)

    def discriminator_side(self, judged: dict[str, Judged]) -> dict[str, Tensor]:
        """One step of the judges that are shown something; returns their losses and gradient norms."""
        with fixed_shapes(self.config.deterministic):
            return self._discriminator_side(judged)

    def _discriminator_side(self, judged: dict[str, Judged]) -> dict[str, Tensor]:
        if not judged:
            return {}
        self.discriminator_filter.begin()
        apart = {name: Judged(shown.real.detach(), shown.fake.detach()) for name, shown in judged.items()}
        parts = self.method.judge(self.stage_nets, apart, self.config)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        sum(parts.values()).backward()
        self._weights.gather()
        self.ranks.average_gradients(self._judges)
        norms = self._clip(self.discriminator_optimizer)
        self.discriminator_filter.step(norms.values())
        return {**{name: loss.detach() for name, loss in parts.items()}, **norms}

    def set_rates(self, step: int, rising: bool = True) -> None:
        """Give both optimisers the learning rates of an iteration; see `learning_rate`."""
        rate = learning_rate(self.config, step, rising)
        set_rate(self.optimizer, rate)
        set_rate(self.discriminator_optimizer, rate * self.config.optim.discriminator_ratio)

    @property
    def rate(self) -> float:
        """The present learning rate of derainer, U-Net and generator."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def filters(self) -> dict[str, StepFilter]:
        """The filters of steps, by the networks that they watch."""
        found = {", ".join(self.method.TOGETHER): self.filter}
        return found | ({", ".join(self.method.JUDGES): self.discriminator_filter} if self.method.JUDGES else {})

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
            **({"buffers": self._gather_buffers()} if self.buffers else {}),
        }

    def _gather_buffers(self) -> dict[str, dict[str, Tensor]]:
        """The buffers of all ranks."""
        several = self.ranks.count > 1
        own = {name: buffer.state_dict() for name, buffer in self.buffers.items()}
        own = {name: {key: v.cpu() if several else v for key, v in state.items()} for name, state in own.items()}
        found = self.ranks.all_gather(own)
        return {name: join([states[name] for states in found]) for name in own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; whether steps are recorded may differ from the saved run."""
        restore_moments(self.optimizer, state["optimizer"])
        restore_moments(self.discriminator_optimizer, state["discriminator_optimizer"])
        make_capturable(self._optimizers, self._graphed, self.device)
        for step_filter, saved in zip(
            self.filters.values(), state.get("guards", ()), strict=False
        ):  # none in older files
            step_filter.load_state_dict(saved)
        for name, saved in state.get("buffers", {}).items():
            if name in self.buffers:
                self.buffers[name].load_state_dict(saved, self.ranks.slots(self.config.batch), self.device)

    def _may_record(self) -> bool:
        """Whether the step may become a CUDA graph; where it is asked for and may not, people are told why."""
        if not self.config.cuda_graph or self.device.type != "cuda":
            return False
        reason = ""
        known = type(self._nets.derainer) in classes_of("derainer").values() and self.method in METHODS.values()
        if self.ranks.count > 1:
            reason = f"{self.ranks.count} processes train together, and no graph holds what they exchange"
        elif not known:  # a branch that Python takes by chance or by data would be recorded as it went once
            reason = "nothing is known of a derainer or method of your own, and a graph repeats what it did once"
        if reason:
            self.notices.append(f"the step runs without a CUDA graph, and may be slower: {reason}")
        return not reason

    @property
    def _optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        return self.optimizer, self.discriminator_optimizer

    def _generator_side_of_stage1(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return self._descend(1, inputs)

    def _generator_side_of_stage2(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return self._descend(2, inputs)

    def _descend(self, stage: int, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        with self._weights:
            return self._descend_together(stage, inputs)

    def _descend_together(self, stage: int, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        self.filter.begin()
        step = self._losses(stage, inputs)
        self.optimizer.zero_grad(set_to_none=True)
        step.loss.backward(inputs=self._together)
        self._weights.gather()
        self.ranks.average_gradients(self._together)
        norms = self._clip(self.optimizer)
        self.filter.step(norms.values())
        done = {name: value.detach() for name, value in {"loss": step.loss, **step.terms, **norms}.items()}
        return done | self._discriminator_side(self._buffered(step.judged, inputs))

    def _buffered(self, judged: dict[str, Judged], inputs: dict[str, Tensor]) -> dict[str, Judged]:
        """What judges are shown where they are shown some of the earlier fakes."""
        if not self.buffers:
            return judged
        drawn = dict(zip(self.buffers, inputs["exchanges"], strict=True))
        return {
            name: shown._replace(fake=self.buffers[name].exchange(shown.fake.detach(), drawn[name]))
            for name, shown in judged.items()
        }

    def _clip(self, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """Scale down the gradient of each network whose norm exceeds the limit; returns the norms before that."""
        limit = self.config.optim.clip_norm or math.inf
        groups = {group["name"]: group["params"] for group in optimizer.param_groups}  # each holds one network
        reached = {name: some for name, some in groups.items() if any(p.grad is not None for p in some)}
        return {f"norm_{name}": nn.utils.clip_grad_norm_(some, limit) for name, some in reached.items()}


@contextlib.contextmanager
def _frozen(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Ask for no gradient at the networks' parameters."""
    parameters = [parameter for network in networks for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
