"""What a run tells: log lines, curves, validation figures, and at its end weights, metrics and the gallery."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .data import Pair, to_tensor
from .drift import LOOKS, HeldOut, Look, drifting, looks_of
from .errors import UserError
from .iqa import CallableScorer, save_scorer, validity
from .metrics import average, evaluate_pair, fixed_filter
from .networks import evaluating
from .progress import Progress
from .run_folder import RunFolder
from .scorer_names import name_of
from .sweep import Sweep
from .tiles import run_tiled
from .weights import RAIN_FROM, save_network

if TYPE_CHECKING:
    from .trainer import Progressed, Trainer


class Book:
    """Keeps the run's log, TensorBoard events and progress line.

    Args:
        trainer: whose iterations are booked.
        folder: where they are written.
        progress: what the user sees meanwhile.
    """

    def __init__(self, trainer: Trainer, folder: RunFolder, progress: Progress) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.trainer, self.folder, self.progress = trainer, folder, progress
        self.events = SummaryWriter(str(folder.events), purge_step=trainer.step)
        self.sums: dict[str, Tensor] = {}
        self.counted = 0
        self.since = time.perf_counter()
        self.shown: dict[str, float | str] = {}
        self.held_out = HeldOut(trainer)
        self.looks = looks_of(folder.read_log() if trainer.step else ())

    def iterated(self, done: Progressed) -> None:
        """Book one iteration; every `log_every` of them make a line."""
        trainer = self.trainer
        for name, term in done.terms.items():
            self.sums[name] = self.sums.get(name, 0) + term.detach()
        self.counted += 1
        if trainer.device.type == "cpu":
            self.check_finite()
        stage1_ends = trainer.step == trainer.config.stage1_iterations  # no line averages over both stages
        if trainer.step % trainer.config.log_every == 0 or stage1_ends or trainer.step == trainer.config.iterations:
            self._write_line()
        stage = 1 if trainer.step <= trainer.config.stage1_iterations else 2
        self.progress.advance(trainer.step, stage, self.shown)

    def check_finite(self) -> None:
        """Raise where a loss has stopped being finite since the last line. Waits for the device."""
        for name, value in self.sums.items():
            if not torch.isfinite(value):
                what = "gradient" if name.startswith("norm_") else "loss term"
                raise UserError(
                    f"the {what} {name.removeprefix('norm_')} is not finite at step {self.trainer.step:,}; the last "
                    f"checkpoint is kept in {self.folder.path}: lower optim.learning_rate or optim.clip_norm, --resume"
                )

    def swept(self, result: Sweep, seconds: float) -> None:
        """Book one sweep that took so many seconds, which count for no iteration."""
        self.since += seconds
        began = time.perf_counter()
        held_out = self.held_out.measure()
        self.since += time.perf_counter() - began
        row = {"step": self.trainer.step, "event": "sweep", **result._asdict(), "held_out": held_out}
        self.folder.append_log(row)
        if held_out is not None:
            self._watch_drift(Look(result.mean_score, held_out))
        if result.refused == result.images:
            self.progress.say(
                f"step {self.trainer.step:,}: none of {result.images} derained images may be a reward: "
                + ", ".join(f"{count} {reason}" for reason, count in result.reasons.items())
            )
        self._plot("pool", {"mean_score": result.mean_score, "entered": result.entered, "refused": result.refused})

    def validated(self) -> dict[str, float]:
        """Measure the derainer on the validation pairs, book and return the figures; {} without pairs."""
        pairs = self.trainer.domains.val
        if not pairs:
            return {}
        began = time.perf_counter()
        figures = validate(self.trainer.derainer, pairs, self.trainer.device)
        self.folder.append_log({"step": self.trainer.step, "event": "validation", **figures})
        self._plot("validation", figures)
        self.progress.say(
            f"step {self.trainer.step:,}: validation {figures['psnr_rgb']:.2f} dB, SSIM {figures['ssim_rgb']:.4f} (RGB)"
        )
        self.since += time.perf_counter() - began
        return figures

    def _watch_drift(self, look: Look) -> None:
        """Warn where the score is being gamed, then look anew."""
        self.looks.append(look)
        if not drifting(self.looks):
            return
        first, name = self.looks[-LOOKS], self.held_out.name
        self.progress.say(
            f"step {self.trainer.step:,}: the rewards score higher and higher ({first.score:.3g} to {look.score:.3g}) "
            f"while {name} falls ({first.held_out:.4g} to {look.held_out:.4g}): the score {self.trainer.scorer.name} "
            "may be gamed; look at the gallery, choose another reward.scorer, or tighten reward.fidelity"
        )
        self.folder.append_log({"step": self.trainer.step, "event": "drift", "metric": name})
        self.looks.clear()

    def __enter__(self) -> Book:
        return self

    def __exit__(self, *exc: object) -> None:
        self.events.close()

    def _write_line(self) -> None:
        trainer, config = self.trainer, self.trainer.config
        self.check_finite()
        seconds, self.since = time.perf_counter() - self.since, time.perf_counter()
        terms = {name: float(value) / self.counted for name, value in self.sums.items()}
        row = {
            "step": trainer.step,
            "event": "train",
            "stage": 1 if trainer.step <= config.stage1_iterations else 2,
            **terms,
            "learning_rate": float(trainer.optimizer.param_groups[0]["lr"]),
            "images_per_second": self.counted * config.batch / seconds,
            "rewards": int(trainer.pool.filled.sum()),
        }
        self.folder.append_log(row)
        self._plot("train", {name: row[name] for name in [*terms, "learning_rate", "images_per_second", "rewards"]})
        shown = {"adv": terms["adversarial"], "pair": terms["pair_psnr"], "D": terms["discriminator"]}
        if "reward" in terms:
            shown["reward"] = terms["reward"]
        shown["img/s"] = row["images_per_second"]
        shown["pool"] = f"{row['rewards']}/{len(trainer.domains.rainy)}"
        self.shown = shown
        self.sums, self.counted = {}, 0

    def _plot(self, group: str, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self.events.add_scalar(f"{group}/{name}", value, self.trainer.step)


def validate(derainer: nn.Module, pairs: Iterable[Pair], device: torch.device) -> dict[str, float]:
    """Mean PSNR and SSIM, RGB and Y, of a derainer on pairs, whole images, after rounding to 8 bits."""
    figures = []
    with evaluating(derainer):
        for pair in pairs:
            derained = run_tiled(derainer, to_tensor(pair.rainy)[None].to(device)).clamp(0, 1)
            figures.append(evaluate_pair(derained.cpu(), to_tensor(pair.clean)[None]))
    return average(figures)


def finish(trainer: Trainer, folder: RunFolder, progress: Progress) -> dict[str, Any]:
    """Write the weights of every network, metrics.json and gallery.html; returns the metrics."""
    from .gallery import write_run_gallery

    save_weights(trainer, folder)
    metrics = final_metrics(trainer)
    validated = [row["step"] for row in folder.read_log() if row.get("event") == "validation"]
    if "psnr_rgb" in metrics and trainer.step not in validated:
        figures = {name: metrics[name] for name in ("psnr_rgb", "ssim_rgb", "psnr_y", "ssim_y")}
        folder.append_log({"step": trainer.step, "event": "validation", **figures})
    folder.write_metrics(metrics)
    write_run_gallery(trainer, folder, metrics)
    for line in summary(metrics):
        progress.say(line)
    progress.say(f"everything is in {folder.path}; look at {folder.gallery}")
    return metrics


def save_weights(trainer: Trainer, folder: RunFolder) -> None:
    """Write safetensors of all four networks (the derainer averaged where that is on) and of the fitted scorer."""
    text = {"preset": trainer.config.preset, "step": str(trainer.step), "seed": str(trainer.config.seed)}
    text[RAIN_FROM] = "derainer" if trainer.switched else "unet"
    for kind, network in trainer.nets._asdict().items():
        save_network(folder.weights(kind), trainer.derainer if kind == "derainer" else network, kind, text)
    if not isinstance(trainer.scorer, CallableScorer):
        name = trainer.config.reward.scorer
        own = name_of(name) != trainer.scorer.name  # a scorer object of the user's
        save_scorer(trainer.scorer, folder.path / "scorer.safetensors", None if own else name)


def final_metrics(trainer: Trainer) -> dict[str, Any]:
    """The figures of metrics.json: of the end, of the end of stage 1, of the input, of the fixed filter."""
    pairs = trainer.domains.val
    metrics: dict[str, Any] = {"preset": trainer.config.preset, "steps": trainer.step}
    metrics["rewards"] = int(trainer.pool.filled.sum())
    metrics["reward_mean_score"] = float(trainer.pool.mean_score())
    if not pairs:
        return metrics
    metrics |= validate(trainer.derainer, pairs, trainer.device)
    metrics |= {f"stage1_{name}": value for name, value in trainer.stage1_metrics.items()}
    for prefix, change in (("input", nn.Identity()), ("filter", _Filter())):
        metrics |= {f"{prefix}_{name}": value for name, value in validate(change, pairs, torch.device("cpu")).items()}
    metrics["score_validity"] = validity(trainer.scorer, pairs, trainer.device)
    return metrics


def summary(metrics: dict[str, Any]) -> list[str]:
    """What a user wants to know at the end, a line each."""
    if "psnr_rgb" not in metrics:
        return ["no validation pairs were given, so nothing was measured; look at the gallery"]
    rows = [("rainy input", "input_"), ("min(O, median 1x9), a fixed filter", "filter_")]
    rows += [("end of stage 1", "stage1_")] if "stage1_psnr_rgb" in metrics else []
    rows += [("this run", "")]
    return [
        f"{label:>36}: {metrics[prefix + 'psnr_rgb']:.2f} dB, SSIM {metrics[prefix + 'ssim_rgb']:.4f} (RGB); "
        f"{metrics[prefix + 'psnr_y']:.2f} dB, SSIM {metrics[prefix + 'ssim_y']:.4f} (Y)"
        for label, prefix in rows
    ]


class _Filter(nn.Module):
    """The fixed filter as a derainer, to be measured like one."""

    def forward(self, rainy: Tensor) -> Tensor:
        return fixed_filter(rainy)
