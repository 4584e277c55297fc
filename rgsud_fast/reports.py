"""What a run tells: log lines, curves, validation figures, and at its end weights, metrics and the gallery."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .data import Pair, to_tensor
from .drift import LOOKS, HeldOut, Look, drifting, looks_of
from .events import Events
from .iqa import CallableScorer, save_scorer, validity
from .means import Means
from .metrics import average, evaluate_pair, fixed_filter
from .model_card import write_card
from .networks import PER_CROP, evaluating, local_statistics
from .progress import Progress
from .ranks import Ranks
from .run_folder import RunFolder
from .scorer_names import name_of
from .sweep import Sweep
from .tiles import run_tiled
from .weights import CROP, RAIN_FROM, save_network

if TYPE_CHECKING:
    from .config import Config
    from .trainer import Progressed, Trainer


class Book:
    """Keeps the run's log, TensorBoard events and progress line; of several ranks the first one writes.

    Args:
        trainer: whose iterations are booked.
        folder: where they are written.
        progress: what the user sees meanwhile.
    """

    def __init__(self, trainer: Trainer, folder: RunFolder, progress: Progress) -> None:
        self.trainer, self.folder, self.progress = trainer, folder, progress
        self.events = Events(folder.events, trainer.step + 1) if trainer.ranks.first else None
        self.means = Means()
        self.pulls: dict[str, Tensor] = {}
        self.skipped = self._skipped()
        self.since = time.perf_counter()
        self.shown: dict[str, float | str] = {}
        self.held_out = HeldOut(trainer)
        self.looks = looks_of(folder.read_log() if trainer.step else ())

    def iterated(self, done: Progressed) -> None:
        """Book one iteration; every `log_every` of them make a line."""
        trainer = self.trainer
        self.means.add(done.terms)
        self.pulls = done.pulls
        if trainer.line_due:
            self._write_line()
        stage = 1 if trainer.step <= trainer.config.stage1_iterations else 2
        self.progress.advance(trainer.step, stage, self.shown)

    def stopped(self) -> None:
        """Book the early end of stage 2."""
        trainer, patience = self.trainer, self.trainer.patience
        if self.means.count:
            self._write_line()
        reason = (
            f"neither the rewards' mean score (best {patience.best_score:.4g}) nor the reward loss (best "
            f"{patience.best_loss:.4g}) improved in {patience.waited} sweeps"
        )
        self._note({"step": trainer.step, "event": "stop", "reason": reason})
        self.progress.say(f"step {trainer.step:,}: stage 2 ends early, as {reason} (reward.patience)")

    def swept(self, result: Sweep, seconds: float) -> None:
        """Book one sweep that took so many seconds, which count for no iteration."""
        self.since += seconds
        began = time.perf_counter()
        held_out = self.held_out.measure() if self.trainer.ranks.first else None
        self.since += time.perf_counter() - began
        row = {"step": self.trainer.step, "event": "sweep", **result._asdict(), "held_out": held_out}
        self._note(row)
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
        window, ranks = window_of(self.trainer.config), self.trainer.ranks
        figures = validate(self.trainer.derainer, pairs, self.trainer.device, window, ranks)
        self._note({"step": self.trainer.step, "event": "validation", **figures})
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
        self._note({"step": self.trainer.step, "event": "drift", "metric": name})
        self.looks.clear()

    def __enter__(self) -> Book:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.events is not None:
            self.events.close()

    def _write_line(self) -> None:
        trainer, config = self.trainer, self.trainer.config
        counted = self.means.count
        terms = self.means.read(trainer.ranks)  # which waits, so the time is taken afterwards
        seconds, self.since = time.perf_counter() - self.since, time.perf_counter()
        terms |= self._pulls()
        row = {
            "step": trainer.step,
            "event": "train",
            "stage": 1 if trainer.step <= config.stage1_iterations else 2,
            **terms,
            "learning_rate": trainer.descent.rate,
            "images_per_second": counted * config.batch / seconds,
            "rewards": int(trainer.pool.filled.sum()),
            **self._tell_skipped(counted),
        }
        self._note(row)
        self._plot("train", {name: value for name, value in row.items() if name not in ("step", "event", "stage")})
        names = {"adv": "adversarial", "pair": "pair_psnr", "D": "discriminator", "reward": "reward"}
        shown = {label: terms[name] for label, name in names.items() if terms.get(name) is not None}
        shown["img/s"] = row["images_per_second"]
        shown["pool"] = f"{row['rewards']}/{len(trainer.domains.rainy)}"
        self.shown = shown

    def _pulls(self) -> dict[str, float | None]:
        """The norms of the terms' gradients, each the mean over ranks of what it is for their crops."""
        if not self.pulls:
            return {}
        ranks = self.trainer.ranks
        norms = (ranks.total(torch.stack(list(self.pulls.values()))) / ranks.count).tolist()
        finite = (norm if math.isfinite(norm) else None for norm in norms)
        return dict(zip(self.pulls, finite, strict=True))

    def _skipped(self) -> dict[str, int]:
        """The steps that were skipped so far."""
        names = ("skipped", "skipped_discriminator")
        return dict(zip(names, (int(guard.skipped) for guard in self.trainer.descent.guards.values()), strict=True))

    def _tell_skipped(self, iterations: int) -> dict[str, int]:
        """Say whose steps were skipped since the last line; returns the counts."""
        before, self.skipped = self.skipped, self._skipped()
        for networks, name in zip(self.trainer.descent.guards, before, strict=True):
            if more := self.skipped[name] - before[name]:
                self.progress.say(
                    f"step {self.trainer.step:,}: skipped {more} of {iterations} steps of {networks}, whose gradients "
                    f"were not finite; {self.skipped[name]:,} so far"
                )
        return self.skipped

    def _note(self, row: dict[str, Any]) -> None:
        if self.trainer.ranks.first:
            self.folder.append_log(row)

    def _plot(self, group: str, figures: dict[str, float | None]) -> None:
        for name, value in figures.items() if self.events is not None else ():
            if value is not None:
                self.events.add_scalar(f"{group}/{name}", value, self.trainer.step)


def validate(
    derainer: nn.Module, pairs: Sequence[Pair], device: torch.device, window: int = 0, ranks: Ranks | None = None
) -> dict[str, float]:
    """Mean PSNR and SSIM, RGB and Y, of a derainer on pairs, whole images, after rounding to 8 bits.

    `window` is the side of the windows of local statistics, 0 for none. Several ranks share the work, and each gets the
    figures.
    """
    ranks = ranks or Ranks(device)
    figures = []
    with evaluating(derainer), local_statistics(derainer, window):
        for pair in pairs[ranks.rank :: ranks.count]:
            derained = run_tiled(derainer, to_tensor(pair.rainy)[None].to(device)).clamp(0, 1)
            figures.append(evaluate_pair(derained.cpu(), to_tensor(pair.clean)[None]))
    return average([row for rows in ranks.gathered(figures) for row in rows])


def window_of(config: Config) -> int:
    """Side of the windows of local statistics in validations; 0 where they are off."""
    return int(PER_CROP * config.crop) if config.val_local_statistics else 0


def finish(trainer: Trainer, folder: RunFolder, progress: Progress) -> dict[str, Any]:
    """Write the weights of every network, metrics.json, the model card and gallery.html; returns the metrics."""
    from .gallery import write_run_gallery

    save_weights(trainer, folder)
    metrics = final_metrics(trainer)
    validated = [row["step"] for row in folder.read_log() if row.get("event") == "validation"]
    if "psnr_rgb" in metrics and trainer.step not in validated:
        figures = {name: metrics[name] for name in ("psnr_rgb", "ssim_rgb", "psnr_y", "ssim_y")}
        folder.append_log({"step": trainer.step, "event": "validation", **figures})
    folder.write_metrics(metrics)
    if write_card(folder.path) is None:
        progress.say(f"no model card: {folder.path / 'README.md'} is not one that rgsud_fast wrote, and stays")
    write_run_gallery(trainer, folder, metrics)
    for line in summary(metrics):
        progress.say(line)
    progress.say(f"everything is in {folder.path}; look at {folder.gallery}")
    return metrics


def save_weights(trainer: Trainer, folder: RunFolder) -> None:
    """Write safetensors of all four networks (the derainer averaged where that is on) and of the fitted scorer."""
    text = {"preset": trainer.config.preset, "step": str(trainer.step), "seed": str(trainer.config.seed)}
    text[CROP] = str(trainer.config.crop)
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
    metrics |= {"rainy_images": len(trainer.domains.rainy), "clean_images": len(trainer.domains.clean)}
    metrics["val_pairs"] = len(pairs or ())
    metrics["rewards"] = int(trainer.pool.filled.sum())
    metrics["reward_mean_score"] = float(trainer.pool.mean_score())
    metrics |= {f"skipped_{name}": count for name, count in trainer.domains.skipped.items()}
    if not pairs:
        return metrics
    metrics |= validate(trainer.derainer, pairs, trainer.device, window_of(trainer.config))
    metrics |= {f"stage1_{name}": value for name, value in trainer.stage1_metrics.items()}
    for prefix, change in (("input", nn.Identity()), ("filter", _Filter())):
        metrics |= {f"{prefix}_{name}": value for name, value in validate(change, pairs, torch.device("cpu")).items()}
    metrics["score_validity"] = validity(trainer.scorer, pairs, trainer.device)
    return metrics


def summary(metrics: dict[str, Any]) -> list[str]:
    """What a user wants to know at the end, a line each."""
    skipped = {name: metrics.get(f"skipped_{name}", 0) for name in ("rainy", "clean", "pairs")}
    told = ", ".join(f"{count} {name}" for name, count in skipped.items() if count)
    lines = [f"images that could not be used and were skipped: {told}"] if told else []
    if "psnr_rgb" not in metrics:
        return [*lines, "no validation pairs were given, so nothing was measured; look at the gallery"]
    rows = [("rainy input", "input_"), ("min(O, median 1x9), a fixed filter", "filter_")]
    rows += [("end of stage 1", "stage1_")] if "stage1_psnr_rgb" in metrics else []
    rows += [("this run", "")]
    return lines + [
        f"{label:>36}: {metrics[prefix + 'psnr_rgb']:.2f} dB, SSIM {metrics[prefix + 'ssim_rgb']:.4f} (RGB); "
        f"{metrics[prefix + 'psnr_y']:.2f} dB, SSIM {metrics[prefix + 'ssim_y']:.4f} (Y)"
        for label, prefix in rows
    ]


class _Filter(nn.Module):
    """The fixed filter as a derainer, to be measured like one."""

    def forward(self, rainy: Tensor) -> Tensor:
        return fixed_filter(rainy)
