"""One step of descent: losses of a stage, gradients, clipping, and both optimisers. The host never waits in it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .config import Config
from .graph import Graphed
from .precision import lowered, pick_precision
from .ranks import Ranks
from .schedule import learning_rate, make_capturable, set_rate
from .stages import Networks, Step, discriminator_loss, stage1, stage2

TRAINED_TOGETHER = ("derainer", "unet", "generator")  # by the loss of a stage; the discriminator has its own


class Descent:
    """Changes the four networks' weights.

    Args:
        config: the run.
        nets: the networks, in place.
        device: where they are.
        ranks: the processes that train them together, each on its share of the crops; default: this one alone.
    """

    def __init__(self, config: Config, nets: Networks, device: torch.device, ranks: Ranks | None = None) -> None:
        self.config, self.device = config, device
        together = [{"name": name, "params": list(getattr(nets, name).parameters())} for name in TRAINED_TOGETHER]
        self._together = [parameter for group in together for parameter in group["params"] if parameter.requires_grad]
        self._graphed = config.cuda_graph and device.type == "cuda"
        self.optimizer = torch.optim.Adam(together, fused=True)
        alone = [{"name": "discriminator", "params": list(nets.discriminator.parameters())}]
        self.discriminator_optimizer = torch.optim.Adam(alone, fused=True)
        make_capturable(self._optimizers, self._graphed, device)
        self.called = lowered(nets, pick_precision(config.precision, device))
        # The loss of a stage sends no gradient to the discriminator's weights, so there its wrapper must not wait.
        self.taught = Networks(*((ranks or Ranks(device)).wrapped(network) for network in self.called))
        self.called = self.taught._replace(discriminator=self.called.discriminator)
        learn = {1: self._learn_stage1, 2: self._learn_stage2}
        if self._graphed:
            learn = {stage: Graphed(device, function) for stage, function in learn.items()}
        self._learn = learn

    def learn(self, stage: int, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step of every optimiser on the crops of an iteration (see `Feed.images`).

        Returns:
            The `loss` of derainer, U-Net and generator, its unweighted terms, the discriminator's loss and the
            gradients' norms, scalars. With `cuda_graph` later steps overwrite them.
        """
        return self._learn[stage](inputs)

    def teach(self, rainy: Tensor, fakes: Tensor) -> dict[str, Tensor]:
        """One step of the discriminator; returns its loss and gradient norm."""
        loss = discriminator_loss(self.taught, rainy, fakes)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norms = self._clip(self.discriminator_optimizer)
        self.discriminator_optimizer.step()
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

    def state_dict(self) -> dict[str, Any]:
        """The optimisers' states."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; whether steps are recorded may differ from the saved run."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
        make_capturable(self._optimizers, self._graphed, self.device)

    @property
    def _optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        return self.optimizer, self.discriminator_optimizer

    def _learn_stage1(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return self._descend(inputs, stage1(self.called, inputs["rainy"], inputs["clean"], self.config.loss))

    def _learn_stage2(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        images = (inputs[name] for name in ("rainy", "clean", "rewards", "improved"))
        switch, rewarded = self.config.reward.switch, inputs.get("rewarded")
        return self._descend(inputs, stage2(self.called, *images, self.config.loss, switch, rewarded))

    def _descend(self, inputs: dict[str, Tensor], step: Step) -> dict[str, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        step.loss.backward(inputs=self._together)
        norms = self._clip(self.optimizer)
        self.optimizer.step()
        everything = self.config.loss.discriminator_fakes == "all"
        shown = step.fakes if everything else step.fakes[: len(inputs["rainy"])]
        return {"loss": step.loss, **step.terms, **norms, **self.teach(inputs["reals"], shown)}

    def _clip(self, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """Scale down the gradient of each network whose norm exceeds the limit; returns the norms before that."""
        limit = self.config.optim.clip_norm or math.inf
        groups = optimizer.param_groups  # each holds one network
        return {f"norm_{group['name']}": nn.utils.clip_grad_norm_(group["params"], limit) for group in groups}
