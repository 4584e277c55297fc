"""Training: the state of a run, what advances it by an iteration or a sweep, and its exact resume."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from . import reports
from .assembly import build_networks, build_pool, choose_scorer
from .checkpoint import load_checkpoint
from .config import Config, load_config, save_config
from .data import Domains, load_domains
from .device import pick_device
from .errors import UserError
from .feed import Feed
from .graph import Graphed
from .installation import missing_kernels
from .iqa import Scorer
from .loop import run
from .ops import use_backend
from .precision import lowered, pick_precision
from .preset import with_preset
from .progress import Progress
from .run_folder import open_run
from .schedule import ema_of, learning_rate, make_capturable, restore_moments, set_rate
from .stages import Step, discriminator_loss, stage1, stage2
from .sweep import Sweep, sweep

TRAINED_TOGETHER = ("derainer", "unet", "generator")  # by the loss of a stage; the discriminator has its own


class Result(NamedTuple):
    """What a training run leaves."""

    run_dir: Path
    weights: Path  # of the derainer
    metrics: dict[str, Any]  # what metrics.json holds


def train(
    config: Config | dict[str, Any] | str | Path | None = None,
    *,
    derainer: nn.Module | None = None,
    scorer: Scorer | Callable[[Tensor], Any] | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Result:
    """Train RGSUD, both stages, on unpaired rainy and clean photographs.

    Args:
        config: a Config, a dict of its fields, the path of a YAML file, or None for the embedded demo. Where a dict or
            file names no `preset`, the device chooses: small on a CPU, paper on a GPU.
        derainer: your own derainer, [N, 3, H, W] -> the same, in place of NAFNet. It is trained in place.
        scorer: your own image-quality score in place of `config.reward.scorer`: a function of images [N, 3, H, W]
            that returns N numbers, higher is better.
        resume: continue the run in `config.out` (or the newest of the preset) from its checkpoint.
        quiet: print nothing.

    Returns:
        The run folder, the derainer's weights and the final metrics.

    Raises:
        UserError: something to mend, named in one line.
        KeyboardInterrupt: interrupted by Ctrl-C or SIGTERM, after a checkpoint was saved.
    """
    given, line = with_preset(config)
    config = load_config(given)
    folder = open_run(config, resume)
    device = pick_device(config.device)
    torch.set_num_threads(config.threads or torch.get_num_threads())
    # "auto" leaves the choice to RGSUD_BACKEND.
    backend = contextlib.nullcontext() if config.backend == "auto" else use_backend(config.backend)
    with Progress(config.iterations, quiet=quiet) as progress, backend, folder.gone_if_empty():
        if line:
            progress.say(line)
        if config.backend == "auto" and (reason := missing_kernels(device)):
            progress.say(f"without compiled kernels training is slower: {reason}")
        domains = load_domains(config.data, folder.cache, progress.say)
        saved = load_checkpoint(folder.checkpoint) if resume else None
        if saved is None:
            progress.say(f"{len(domains.rainy)} rainy and {len(domains.clean)} clean images; preparing the score")
        judge = choose_scorer(config, domains, scorer, saved, device)
        trainer = Trainer(config, domains, judge, device, derainer, folder.cache)
        if len(trainer.pool.tiers) > 1 or trainer.pool.tiers[0].kind != "device":
            progress.say(trainer.pool.where())
        if saved is not None:
            trainer.load_state_dict(saved)
            del saved
            folder.cut_log(trainer.step)
        save_config(config, folder.config)
        run(trainer, folder, progress)
        metrics = reports.finish(trainer, folder, progress)
    return Result(folder.path, folder.weights("derainer"), metrics)


class Progressed(NamedTuple):
    """What one iteration computed. With `cuda_graph` later iterations overwrite the tensors."""

    loss: Tensor  # scalar, of derainer, U-Net and generator
    terms: dict[str, Tensor]  # the unweighted terms of the loss, the discriminator's loss, the gradients' norms


class Trainer:
    """The state of a run and what advances it by one iteration; it touches no file.

    Args:
        config: the run.
        domains: its images.
        scorer: judges derained images in sweeps.
        device: where everything lives.
        derainer: a network of the user's own instead of NAFNet.
        scratch: folder for rewards that no memory holds.
    """

    def __init__(
        self,
        config: Config,
        domains: Domains,
        scorer: Scorer,
        device: torch.device,
        derainer: nn.Module | None = None,
        scratch: Path | None = None,
    ) -> None:
        self.config, self.domains, self.scorer, self.device = config, domains, scorer, device
        self.step = 0  # iterations done
        self.sweeps = 0  # sweeps done
        self.warm = False  # whether the discriminator has had its warm-up
        self.stage1_metrics: dict[str, float] = {}
        self.nets = build_networks(config, device, derainer)
        together = [{"name": name, "params": list(getattr(self.nets, name).parameters())} for name in TRAINED_TOGETHER]
        self._together = [parameter for group in together for parameter in group["params"] if parameter.requires_grad]
        graphed = config.cuda_graph and device.type == "cuda"
        self.optimizer = torch.optim.Adam(together, fused=True)
        alone = [{"name": "discriminator", "params": list(self.nets.discriminator.parameters())}]
        self.discriminator_optimizer = torch.optim.Adam(alone, fused=True)
        make_capturable((self.optimizer, self.discriminator_optimizer), graphed, device)
        self.average = AveragedModel(self.nets.derainer, multi_avg_fn=ema_of(config.optim.ema_decay))
        self.average.n_averaged = self.average.n_averaged.cpu()  # read by the host at every iteration
        self.called = lowered(self.nets, pick_precision(config.precision, device))
        learn = {1: self._learn_stage1, 2: self._learn_stage2}
        self._learn = {stage: Graphed(device, function) for stage, function in learn.items()} if graphed else learn
        self.outcomes: dict[int, int] = {}  # by image: what became of its last candidate, a place in sweep.OUTCOMES
        self.pool = build_pool(config, domains, device, scratch)
        self.feed = Feed(config, domains, device)  # after what must be on the device

    @property
    def stage(self) -> int:
        """1 or 2: the stage of the next iteration."""
        return 1 if self.step < self.config.stage1_iterations else 2

    @property
    def switched(self) -> bool:
        """Whether stage 2 has begun to take rain from rewards, where there are any, and not from the U-Net."""
        return self.config.reward.switch and self.step > self.config.stage1_iterations

    @property
    def derainer(self) -> nn.Module:
        """The derainer that judges, validates and is saved: the moving average where it is on."""
        return self.average.module if self.config.optim.ema_decay else self.nets.derainer

    def iterate(self) -> Progressed:
        """Do one iteration: generator side, then discriminator."""
        self._set_learning_rates()
        self.warm_up()
        inputs = self.feed.images(self.step, self.pool if self.stage == 2 else None)
        outputs = self._learn[self.stage](inputs)
        if self.config.optim.ema_decay:
            self.average.update_parameters(self.nets.derainer)
        self.step += 1
        loss = outputs.pop("loss")
        return Progressed(loss, outputs)

    def _learn_stage1(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return self._descend(inputs, stage1(self.called, inputs["rainy"], inputs["clean"], self.config.loss))

    def _learn_stage2(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        images = (inputs[name] for name in ("rainy", "clean", "rewards", "improved"))
        return self._descend(inputs, stage2(self.called, *images, self.config.loss, self.config.reward.switch))

    def _descend(self, inputs: dict[str, Tensor], step: Step) -> dict[str, Tensor]:
        """One step of every optimiser; returns the loss, its terms and the gradients' norms. The host never waits."""
        self.optimizer.zero_grad(set_to_none=True)
        step.loss.backward(inputs=self._together)
        norms = self._clip(self.optimizer)
        self.optimizer.step()
        everything = self.config.loss.discriminator_fakes == "all"
        shown = step.fakes if everything else step.fakes[: len(inputs["rainy"])]
        told = self._teach_discriminator(inputs["reals"], shown)
        return {"loss": step.loss, **step.terms, **norms, **told}

    def sweep_due(self) -> bool:
        """Whether a sweep belongs before the next iteration."""
        start = round(self.config.reward.sweep_start * self.config.stage1_iterations)
        return self.step >= start and (self.step - start) % self.sweep_every == 0

    @property
    def sweep_every(self) -> int:
        """Iterations between sweeps; by default an epoch-equivalent of the rainy set between 1,000 and 5,000."""
        epoch = math.ceil(len(self.domains.rainy) / self.config.batch)
        return self.config.reward.sweep_every or min(max(epoch, 1000), 5000)

    def sweep(self) -> Sweep:
        """Offer the present derainer's output to the reward pool; sets larger than a sweep roll over in parts."""
        images = len(self.domains.rainy)
        count = min(images, self.config.reward.sweep_images)
        indices = [(self.sweeps * count + i) % images for i in range(count)]
        self.sweeps += 1
        judged = self.scorer, self.pool, self.device, self.config.reward
        done, outcomes = sweep(self.derainer, self.domains.rainy, indices, *judged)
        self.outcomes |= dict(zip(indices, outcomes, strict=True))
        return done

    def state_dict(self) -> dict[str, Any]:
        """Everything an exact resume needs."""
        return {
            "step": self.step,
            "sweeps": self.sweeps,
            "stage1_metrics": self.stage1_metrics,
            "sizes": self.config.network.model_dump(mode="json"),
            "networks": {name: net.state_dict() for name, net in self.nets._asdict().items()},
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "pool": self.pool.state_dict(),
            "outcomes": self.outcomes,
            "scorer": {"name": self.scorer.name, "state": self.scorer.state()},
            "images": self._images(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            UserError: it belongs to a run with other networks or images.
        """
        if state["images"] != self._images():
            raise UserError("the rainy or clean images are not those of the checkpoint; start a new run for them")
        for field, now in self.config.network.model_dump(mode="json").items():
            if (saved := state.get("sizes", {}).get(field, now)) != now:
                raise UserError(f"network.{field} is {now}, and {saved} in the checkpoint; start a new run for it")
        try:
            for name, net in self.nets._asdict().items():
                net.load_state_dict(state["networks"][name])
            self.average.load_state_dict(state["average"])
            restore_moments(self.optimizer, state["optimizer"])
            restore_moments(self.discriminator_optimizer, state["discriminator_optimizer"])
            self.pool.load_state_dict(state["pool"])
            self.stage1_metrics = {str(name): float(value) for name, value in state["stage1_metrics"].items()}
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"the checkpoint is of a run with other networks or images: {reason}") from None
        graphed = self.config.cuda_graph and self.device.type == "cuda"  # in the saved run it may have been otherwise
        make_capturable((self.optimizer, self.discriminator_optimizer), graphed, self.device)
        self.step, self.sweeps = state["step"], state["sweeps"]
        images = range(len(self.domains.rainy))
        self.outcomes = {i: outcome for i, outcome in state.get("outcomes", {}).items() if i in images}

    def _images(self) -> list[list[str]]:
        """What a checkpoint's rewards and crops belong to."""
        return [list(self.domains.rainy.digests), list(self.domains.clean.digests)]

    def warm_up(self, watch: Callable[[int], None] | None = None) -> None:
        """Teach the discriminator rainy from clean, which is where the generator starts, before the first iteration.

        `watch` is called with the number of steps done after each.
        """
        if self.step or self.warm:
            return
        for step in range(self.config.optim.discriminator_warmup):
            self._teach_discriminator(*self.feed.pair(step))
            if watch is not None:
                watch(step + 1)
        self.warm = True

    def _teach_discriminator(self, rainy: Tensor, fakes: Tensor) -> dict[str, Tensor]:
        """One step of the discriminator; returns its loss and gradient norm."""
        loss = discriminator_loss(self.called, rainy, fakes)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norms = self._clip(self.discriminator_optimizer)
        self.discriminator_optimizer.step()
        return {"discriminator": loss, **norms}

    def _set_learning_rates(self) -> None:
        rate = learning_rate(self.config, self.step)
        set_rate(self.optimizer, rate)
        set_rate(self.discriminator_optimizer, rate * self.config.optim.discriminator_ratio)

    def _clip(self, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """Scale down the gradient of each network whose norm exceeds the limit; returns the norms before that."""
        limit = self.config.optim.clip_norm or math.inf
        groups = optimizer.param_groups  # each holds one network
        return {f"norm_{group['name']}": nn.utils.clip_grad_norm_(group["params"], limit) for group in groups}
