"""The monitor of a run: log lines, curves, validation figures."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..networks.derainers.moe import MoENet
from ..rewards.hacking import READINGS, HeldOutMetric, Reading, drifting, readings_of
from ..rewards.sweep import Sweep
from ..runs.folder import RunFolder
from ..runs.tensorboard import Events
from ..system.progress import Progress
from .gallery import write_gallery_so_far
from .log_means import Means
from .validation import validate, window_of

if TYPE_CHECKING:
    from .reward_stages import Moved
    from .trainer import Iteration, Trainer

DEAD, DEAD_AFTER = 0.02, 500  # share of an expert below which it is told, over so many iterations
SHOWING = 0.02  # most of a run's time that writing its gallery meanwhile takes


class Monitor:
    """Keeps the run's log, TensorBoard events and progress line; of several ranks the first one writes.

    Args:
        trainer: whose iterations are logged.
        folder: where they are written.
        progress: what the user sees meanwhile.
    """

    def __init__(self, trainer: Trainer, folder: RunFolder, progress: Progress) -> None:
        self.trainer, self.folder, self.progress = trainer, folder, progress
        self.events = Events(folder.events, trainer.step + 1) if trainer.ranks.first else None
        self.means = Means()
        self.judges = "_".join(trainer.method.JUDGES)  # the name of their steps in the log
        self.skips = ("skipped", f"skipped_{self.judges}") if self.judges else ("skipped",)
        self.term_gradients: dict[str, Tensor] = {}
        self.skipped = trainer.standing().skipped
        self.stage = trainer.stage  # of the last iteration
        self.since = time.perf_counter()
        self.shown: dict[str, float | str] = {}
        judged = trainer.domains, trainer.scorer.name, trainer.device, progress.of("preparing the score's check")
        self.held_out = HeldOutMetric(*judged) if trainer.ranks.first and trainer.recycles else None
        self.shows = trainer.ranks.first and trainer.config.live_gallery
        self.began, self.swept, self.told_costly = time.perf_counter(), 0.0, False
        self.shown_until, self.showing_took = float("-inf"), 0.0
        self.readings = readings_of(folder.read_log() if trainer.step else ())

    def log_iteration(self, done: Iteration) -> None:
        """Log one iteration; every `log_every` of them make a line."""
        trainer = self.trainer
        self.means.add(done.terms)
        self.term_gradients, self.stage = done.term_gradients, done.stage
        if trainer.line_due:
            self._write_line()
        if trainer.step % DEAD_AFTER == 0 and isinstance(trainer.nets.derainer, MoENet):
            self._tell_dead_experts(trainer.nets.derainer)
        self.progress.advance(trainer.step, done.stage, self.shown)

    def log_early_end(self) -> None:
        """Log the early end of stage 2."""
        trainer, patience = self.trainer, self.trainer.patience
        if self.means.count:
            self._write_line()
        reason = (
            f"neither the rewards' mean score (best {patience.best_score:.4g}) nor the reward loss (best "
            f"{patience.best_loss:.4g}) improved in {patience.waited} sweeps"
        )
        self._note({"step": trainer.step, "event": "stop", "reason": reason})
        self.progress.say(f"step {trainer.step:,}: stage 2 ends early, as {reason} (reward.patience)")

    def log_seeds(self, result: Sweep, seconds: float) -> None:
        """Log the first rewards, which no derainer made, and which took so many seconds."""
        self.since += seconds
        row = {"step": self.trainer.step, "event": "first", "images": result.images, "seeded": result.entered}
        self._note(row | {"mean_score": result.mean_score, "reasons": result.reasons})
        left = {name: count for name, count in result.reasons.items() if name != "entered"}
        without = f" ({', '.join(f'{count} {name}' for name, count in left.items())})" if left else ""
        self.progress.say(f"first rewards for {result.entered} of {result.images} rainy images{without}")
        self.show()

    def log_reward_stage(self, moved: Moved, seconds: float) -> None:
        """Log that the score is another from now on, or stays; what came before is not compared with what follows."""
        self.since += seconds
        step, name = self.trainer.step, self.trainer.scorer.name
        if moved.stays:
            told = f"stays in stage {moved.stage} for one more period: the held-out metric fell in it"
        else:
            self.readings.clear()
            told = f"scores in stage {moved.stage} from now on; all rewards are scored anew"
        self._note({"step": step, "event": "curriculum", "stage": moved.stage, "stays": moved.stays})
        self.progress.say(f"step {step:,}: {name} {told}")

    def log_sweep(self, result: Sweep, seconds: float) -> float | None:
        """Log one sweep that took so many seconds, which count for no iteration; returns the held-out metric."""
        self.since += seconds
        self._tell_costly_sweeps(seconds)
        began = time.perf_counter()
        held_out = None if self.held_out is None else self.held_out.measure(self.trainer.derainer)
        self.since += time.perf_counter() - began
        row = {"step": self.trainer.step, "event": "sweep", **result._asdict(), "held_out": held_out}
        if result.toolbox is None:
            del row["toolbox"]
        self._note(row)
        if self.held_out is not None and held_out is not None:
            self._watch_drift(Reading(result.mean_score, held_out), self.held_out.name)
        if result.refused == result.images:
            self.progress.say(
                f"step {self.trainer.step:,}: none of {result.images} derained images may be a reward: "
                + ", ".join(f"{count} {reason}" for reason, count in result.reasons.items())
            )
        self._plot("pool", {"mean_score": result.mean_score, "entered": result.entered, "refused": result.refused})
        self.show()
        return held_out

    def log_types(self, figures: dict[str, float]) -> None:
        """Log the loss of each type of rain on held-out pairs, and its weight from now on."""
        self._note({"step": self.trainer.step, "event": "types", **figures})
        self._plot("types", figures)

    def _tell_dead_experts(self, derainer: MoENet) -> None:
        """Say which experts were hardly used of late, and log how much each was."""
        shares = derainer.shares_used()
        self._note({"step": self.trainer.step, "event": "experts", "shares": shares})
        dead = [f"{i + 1} of {name}" for name, some in shares.items() for i, share in enumerate(some) if share < DEAD]
        if dead:
            self.progress.say(
                f"step {self.trainer.step:,}: experts {', '.join(dead)} had less than {100 * DEAD:.0f} % of the last "
                f"{DEAD_AFTER} steps: raise network.moe.balance or network.moe.noise"
            )

    def _tell_costly_sweeps(self, seconds: float) -> None:
        """Say once where sweeps take more of the time than iterations do."""
        self.swept += seconds
        iterating = time.perf_counter() - self.began - self.swept
        if self.trainer.sweeps < 2 or self.swept < iterating or self.told_costly:
            return
        self.told_costly = True
        self.progress.say(
            f"sweeps take more time than iterations, {seconds:.0f} s each: a larger reward.sweep-every or a smaller "
            "reward.sweep-images trains more in the same time"
        )

    def validate(self) -> dict[str, float]:
        """Measure the derainer on the validation pairs, log and return the figures; {} without pairs."""
        trainer, pairs = self.trainer, self.trainer.domains.val
        if not pairs:
            return {}
        began = time.perf_counter()
        window, watch = window_of(trainer.config), self.progress.of("validation")
        figures = validate(trainer.derainer, pairs, trainer.device, window, trainer.ranks, watch)
        self._note({"step": trainer.step, "event": "validation", **figures})
        self._plot("validation", figures)
        self.progress.say(
            f"step {trainer.step:,}: validation {figures['psnr_rgb']:.2f} dB, SSIM {figures['ssim_rgb']:.4f} (RGB)"
        )
        if trainer.best is not None:
            trainer.best.offer(trainer.step, figures, trainer.derainer)
        self.since += time.perf_counter() - began
        self.show()
        return figures

    def show(self) -> None:
        """Write the gallery so far, unless that would take more than `SHOWING` of the time."""
        began = time.perf_counter()
        if not self.shows or began - self.shown_until < self.showing_took / SHOWING:
            return
        told = f"see how it goes: open {self.folder.gallery}, which renews itself" if self.showing_took == 0 else ""
        try:
            write_gallery_so_far(self.trainer, self.folder)
        except OSError as error:  # of pictures: the run goes on without
            self.shows = False
            told = f"no pictures before the end of the run: {self.folder.gallery}: {error.strerror}"
        if told:
            self.progress.say(told)
        self.shown_until = time.perf_counter()
        self.showing_took = self.shown_until - began
        self.since += self.showing_took

    def _watch_drift(self, reading: Reading, name: str) -> None:
        """Warn where the score is being gamed, as the metric of that name says, then begin anew."""
        self.readings.append(reading)
        if not drifting(self.readings):
            return
        first = self.readings[-READINGS]
        self.progress.say(
            f"step {self.trainer.step:,}: the rewards score higher and higher ({first.score:.3g} to "
            f"{reading.score:.3g}) while {name} falls ({first.held_out:.4g} to {reading.held_out:.4g}): the score "
            f"{self.trainer.scorer.name} may be gamed; look at the gallery, choose another reward.scorer, or tighten "
            "reward.fidelity"
        )
        self._note({"step": self.trainer.step, "event": "drift", "metric": name})
        self.readings.clear()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.events is not None:
            self.events.close()

    def _write_line(self) -> None:
        trainer, counted = self.trainer, self.means.count
        terms = self.means.read(trainer.ranks)  # which waits, so the time is taken afterwards
        seconds, self.since = time.perf_counter() - self.since, time.perf_counter()
        terms |= self._read_gradients()
        standing = trainer.standing()
        self._tell_skipped(standing.skipped, counted)
        row: dict[str, Any] = {
            "step": trainer.step,
            "event": "train",
            "stage": self.stage,
            **terms,
            "learning_rate": standing.rate,
            "images_per_second": counted * trainer.config.batch / seconds,
            **({"rewards": standing.rewards} if trainer.recycles else {}),
            **dict(zip(self.skips, standing.skipped.values(), strict=True)),
        }
        self._note(row)
        self._plot("train", {name: value for name, value in row.items() if name not in ("step", "event", "stage")})
        names = {"adv": "adversarial", "pair": "pair_psnr", "pasted": "pasted_psnr", "D": self.judges}
        names |= {"reward": "reward", "L1": "labelled", "labelled": "labelled_psnr"}
        shown: dict[str, Any] = {label: terms[name] for label, name in names.items() if terms.get(name) is not None}
        shown["img/s"] = row["images_per_second"]
        if trainer.recycles:
            shown["pool"] = f"{row['rewards']}/{len(trainer.domains.rainy)}"
        self.shown = shown

    def _read_gradients(self) -> dict[str, float | None]:
        """The norms of the terms' gradients, each the mean over ranks of what it is for their crops."""
        if not self.term_gradients:
            return {}
        ranks = self.trainer.ranks
        norms = (ranks.all_reduce(torch.stack(list(self.term_gradients.values()))) / ranks.count).tolist()
        finite = (norm if math.isfinite(norm) else None for norm in norms)
        return dict(zip(self.term_gradients, finite, strict=True))

    def _tell_skipped(self, skipped: dict[str, int], iterations: int) -> None:
        """Say whose steps were skipped since the last line, of so many iterations."""
        before, self.skipped = self.skipped, skipped
        for networks, count in skipped.items():
            if more := count - before[networks]:
                self.progress.say(
                    f"step {self.trainer.step:,}: skipped {more} of {iterations} steps of {networks}, whose gradients "
                    f"were not finite; {count:,} so far"
                )

    def _note(self, row: dict[str, Any]) -> None:
        if self.trainer.ranks.first:
            self.folder.append_log(row)

    def _plot(self, group: str, figures: Mapping[str, float | None]) -> None:
        for name, value in figures.items():
            if self.events is not None and value is not None:
                self.events.add_scalar(f"{group}/{name}", value, self.trainer.step)
