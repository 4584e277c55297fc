"""The results of a run: weights, metrics, the model card and the gallery."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..config.figures import FIGURES, FILTER, INPUT, ROWS, STAGE1
from ..config.scorer_names import name_of
from ..errors import UserError, reason
from ..iqa import CallableScorer, save_scorer, validity
from ..iqa.factory import check_saves
from ..iqa.metrics import fixed_filter
from ..networks.known import DERAINERS
from ..networks.weights import CROP, METHOD, RAIN_FROM, pack_network, save_network
from ..runs.folder import RunFolder
from ..runs.model_card import write_card
from ..system.progress import Progress
from ..system.watch import Watch, nobody
from .gallery import rain_from, write_run_gallery
from .validation import validate, window_of

if TYPE_CHECKING:
    from .trainer import Trainer


def finish(trainer: Trainer, folder: RunFolder, progress: Progress) -> dict[str, Any]:
    """Write the weights of every network, metrics.json, the model card and gallery.html; returns the metrics."""
    save_weights(trainer, folder)
    metrics = final_metrics(trainer, progress.of("last figures"))
    validated = [row["step"] for row in folder.read_log() if row.get("event") == "validation"]
    if "psnr_rgb" in metrics and trainer.step not in validated and trainer.kept_step == trainer.step:
        figures = {name: metrics[name] for name in FIGURES}
        folder.append_log({"step": trainer.step, "event": "validation", **figures})
    folder.write_metrics(metrics)
    if write_card(folder.path) is None:
        progress.say(f"no model card: {folder.path / 'README.md'} is not one that rgsud_fast wrote, and stays")
    write_run_gallery(trainer, folder, metrics)
    for line in (*summary(metrics), *what_next(folder, metrics)):
        progress.say(line)
    return metrics


def save_weights(trainer: Trainer, folder: RunFolder) -> None:
    """Write safetensors of the networks that were trained (the derainer averaged where it is) and of the scorer."""
    text = {"preset": trainer.config.preset, "step": str(trainer.step), "seed": str(trainer.config.seed)}
    text[CROP] = str(trainer.config.crop)
    text[METHOD] = trainer.method.NAME
    text[RAIN_FROM] = rain_from(trainer)
    for kind in trainer.method.trained(trainer.config):
        if kind != "derainer":
            save_network(folder.weights(kind), getattr(trainer.nets, kind), kind, text)
        else:
            kept = {} if trainer.chosen is None else {"kept_step": str(trainer.kept_step)}
            save_network(folder.weights(kind), trainer.derainer, kind, text | kept)
    if not isinstance(trainer.scorer, CallableScorer):
        name = trainer.config.reward.scorer
        own = name_of(name) != trainer.scorer.name  # a scorer object of the user's
        save_scorer(trainer.scorer, folder.path / "scorer.safetensors", None if own else name)


def prove_weights(trainer: Trainer) -> None:
    """Demand that what is written at the end can be, before the first step.

    Raises:
        UserError: the state of the score, or of a derainer of the user's, cannot be saved.
    """
    derainer = trainer.nets.derainer
    if type(derainer) not in DERAINERS.values():
        try:
            pack_network(derainer, "derainer")
        except Exception as error:  # whatever its state_dict() does
            raise UserError(
                f"the weights of your derainer {type(derainer).__name__} cannot be saved ({reason(error)}): its "
                "state_dict() must hold tensors alone"
            ) from None
    if not isinstance(trainer.scorer, CallableScorer):
        check_saves(trainer.scorer)


def final_metrics(trainer: Trainer, watch: Watch = nobody) -> dict[str, Any]:
    """The figures of metrics.json: of the end, of the end of stage 1, of the input, of the fixed filter.

    `watch` is told how far the derainer is with the validation pairs.
    """
    pairs = trainer.domains.val
    metrics: dict[str, Any] = {"preset": trainer.config.preset, "steps": trainer.step}
    if trainer.best is not None and trainer.best.weights:  # none without validation pairs
        metrics["kept_step"] = trainer.kept_step
    metrics |= {"rainy_images": len(trainer.domains.rainy), "clean_images": len(trainer.domains.clean)}
    metrics["val_pairs"] = len(pairs or ())
    if trainer.recycles:
        metrics["rewards"] = int(trainer.pool.filled.sum())
        metrics["reward_mean_score"] = float(trainer.pool.mean_score())
    metrics |= {f"skipped_{name}": count for name, count in trainer.domains.skipped.items()}
    if not pairs:
        return metrics
    metrics |= validate(trainer.derainer, pairs, trainer.device, window_of(trainer.config), watch=watch)
    metrics |= {STAGE1 + name: value for name, value in trainer.stage1_metrics.items()}
    for prefix, change in ((INPUT, nn.Identity()), (FILTER, _Filter())):
        metrics |= {prefix + name: value for name, value in validate(change, pairs, torch.device("cpu")).items()}
    if trainer.recycles:
        metrics["score_validity"] = validity(trainer.scorer, pairs, trainer.device)
    return metrics


def summary(metrics: dict[str, Any]) -> list[str]:
    """What a user wants to know at the end, a line each."""
    skipped = {name: metrics.get(f"skipped_{name}", 0) for name in ("rainy", "clean", "pairs")}
    told = ", ".join(f"{count} {name}" for name, count in skipped.items() if count)
    lines = [f"images that could not be used and were skipped: {told}"] if told else []
    if "psnr_rgb" not in metrics:
        return [*lines, "no validation pairs were given, so nothing was measured; look at the gallery"]
    rows = {prefix: label for prefix, label in ROWS.items() if f"{prefix}psnr_rgb" in metrics} | {"": "this run"}
    if (kept := metrics.get("kept_step", metrics.get("steps"))) != metrics.get("steps"):
        by = "types of rain" if "types_mean" in metrics else "images"
        lines.append(f"kept: the weights of step {kept:,}, whose validation is best by the mean over {by}")
    return lines + [
        f"{label:>36}: {metrics[prefix + 'psnr_rgb']:.2f} dB, SSIM {metrics[prefix + 'ssim_rgb']:.4f} (RGB); "
        f"{metrics[prefix + 'psnr_y']:.2f} dB, SSIM {metrics[prefix + 'ssim_y']:.4f} (Y)"
        for prefix, label in rows.items()
    ]


def what_next(folder: RunFolder, metrics: dict[str, Any]) -> list[str]:
    """What a user does with a finished run, a line each."""
    run = shlex.quote(str(folder.path))
    lines = [
        f"everything is in {folder.path}; look at {folder.gallery}",
        f"your photographs: rgsud-fast derain {run} INPUT OUTPUT, or in the browser: rgsud-fast demo {run}",
    ]
    poor = metrics.get("psnr_rgb", 0) < metrics.get(f"{FILTER}psnr_rgb", 0)
    begins = "worse than a filter that learns nothing" if poor else "not what you hoped for"
    return [*lines, f"{begins}? docs/own-data.md has a table of symptoms and what to change"]


class _Filter(nn.Module):
    """The fixed filter as a derainer, to be measured like one."""

    def forward(self, rainy: Tensor) -> Tensor:
        return fixed_filter(rainy)
