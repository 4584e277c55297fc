"""The gallery of a training run: its figures, what it derains, what it learned from, and its curves."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..config.figures import FIGURES, FILTER, INPUT, ROWS
from ..config.load import flatten_fields
from ..data import evenly, to_batch
from ..data.image_files import to_bytes
from ..iqa.judge import knows_where
from ..iqa.metrics import psnr
from ..methods.method import Painter
from ..networks import evaluating, local_statistics
from ..networks.tiles import run_tiled
from ..networks.weights import NO_RAIN, PASTED
from ..rewards.sweep import OUTCOMES, judge
from ..runs.html.curves import Band
from ..runs.html.heat import LEGEND, heat
from ..runs.html.page import Comparison, Panel, Row, comparisons, curves, facts, figures, rows, write_gallery
from ..runs.model_card import without_paths
from .gallery_advice import outcomes_text, title, training_text
from .gallery_pairs import labelled_images, routing, type_figures
from .validation import derain_whole, sweep_window_of, window_of

if TYPE_CHECKING:
    from ..runs.folder import RunFolder
    from .trainer import Trainer

SHOWN = 8  # validation pairs, and training images
SHOWN_OUTCOMES = 3  # images of each outcome of the last sweep
SHOWN_MEANWHILE = 4  # validation pairs, and training images, while the run goes on

_UPRIGHT = "The dashed upright line is the end of stage 1."


def write_run_gallery(trainer: Trainer, folder: RunFolder, metrics: dict[str, Any]) -> None:
    """Write the run's gallery.html from its networks, its reward pool, its metrics and its log.

    Args:
        trainer: the finished run; its networks are used, not changed.
        folder: where the log is and the gallery goes.
        metrics: what metrics.json holds.
    """
    config = trainer.config
    references = {key: (ROWS[INPUT], metrics[INPUT + key]) for key in FIGURES if INPUT + key in metrics}
    write_gallery(
        folder.gallery,
        title(trainer.method, folder.path.name),
        _figures(metrics),
        type_figures(metrics),
        routing(trainer),
        *_images(trainer, SHOWN),
        _outcomes(trainer, folder) if trainer.recycles else "",
        curves("Curves", folder.read_log(), _stages(trainer), references, _UPRIGHT, _bands(folder.read_log())),
        _configuration(trainer),
        subtitle=f"preset {config.preset} · {trainer.step:,} iterations · seed {config.seed} · {trainer.device}",
    )


def write_gallery_so_far(trainer: Trainer, folder: RunFolder) -> None:
    """Write what `gallery.html` can show while the run goes on: a few images, and the curves.

    Args:
        trainer: the run, on the rank that writes; its networks are used, not changed.
        folder: where the log is and the gallery goes.
    """
    config = trainer.config
    now = datetime.now().strftime("%H:%M:%S")
    write_gallery(
        folder.gallery,
        title(trainer.method, folder.path.name),
        *_images(trainer, SHOWN_MEANWHILE),
        curves("Curves", folder.read_log(), _stages(trainer), text=_UPRIGHT, bands=_bands(folder.read_log())),
        _configuration(trainer),
        subtitle=f"preset {config.preset} · stage {trainer.stage} · at {now}: {trainer.step:,} of "
        f"{config.iterations:,} iterations",
        progress=(trainer.step, config.iterations),
    )


def _outcomes(trainer: Trainer, folder: RunFolder) -> str:
    """The section of what sweeps did."""
    return rows(
        "What became of rewards",
        _rewards(trainer),
        f"{outcomes_text(trainer.config)} {_reasons(folder.read_log())}",
    )


def _images(trainer: Trainer, most: int) -> tuple[str, ...]:
    """The sections of validation and of training images."""
    return (
        comparisons(
            "Validation images",
            _validation(trainer, most),
            f"Drag across an image. None of them was trained on. {_sample(most, len(trainer.domains.val or ()))}",
        ),
        labelled_images(trainer, most),
        *([] if not trainer.recycles else [_unpaired_images(trainer, most)]),
    )


def _unpaired_images(trainer: Trainer, most: int) -> str:
    """The section of unpaired training images."""
    return rows(
        "Training images",
        _training(trainer, most),
        f"{_sample(most, len(trainer.domains.rainy))} {training_text(trainer.method, trainer.config)}",
    )


def _sample(most: int, count: int) -> str:
    return f"{min(most, count)} of {count} are shown."


def _stages(trainer: Trainer) -> list[int]:
    """The steps at which a stage ends and another follows."""
    return [trainer.config.stage1_iterations] if trainer.config.stage2_iterations else []


def _bands(log: list[dict[str, Any]]) -> list[Band]:
    """The stages of the score, from each of which on no score is comparable with those before."""
    moved = [row for row in log if row.get("event") == "curriculum" and not row.get("stays")]
    return [Band(row["step"], f"score {row['stage']}") for row in moved if {"step", "stage"} <= row.keys()]


def _configuration(trainer: Trainer) -> str:
    return facts("Configuration", without_paths(flatten_fields(trainer.config.model_dump(mode="json"))))


def _figures(metrics: dict[str, Any]) -> str:
    table = {
        label: {column: metrics[prefix + key] for key, column in FIGURES.items()}
        for prefix, label in (ROWS | {"": "end of the run"}).items()
        if f"{prefix}psnr_rgb" in metrics
    }
    tiles: dict[str, Any] = {}
    if "psnr_rgb" in metrics:
        for label, prefix in (("over the rainy input", INPUT), ("over the fixed filter", FILTER)):
            if f"{prefix}psnr_rgb" in metrics:
                tiles[label] = f"{metrics['psnr_rgb'] - metrics[f'{prefix}psnr_rgb']:+.2f} dB"
        tiles = {"PSNR-RGB on validation": f"{metrics['psnr_rgb']:.2f} dB", **tiles}
    if "rewards" in metrics:
        tiles["images with a reward"] = metrics["rewards"]
    if skipped := sum(metrics.get(f"skipped_{name}", 0) for name in ("rainy", "clean", "pairs")):
        tiles["images and pairs skipped: they cannot be used"] = skipped
    validity = metrics.get("score_validity")
    if isinstance(validity, (int, float)):
        tiles["pairs that the score orders rightly"] = f"{100 * validity:.0f} %"
    note = "" if table else "No validation pairs were given, so nothing was measured."
    note = note or "Means over the validation images, whole, rounded to 8 bits."
    return figures("Figures", table, tiles, note, "end of the run")


@torch.no_grad()
def _validation(trainer: Trainer, most: int) -> list[Comparison]:
    shown = []
    pairs = (trainer.domains.val or []) if trainer.step else []
    for pair in (pairs[i] for i in evenly(len(pairs), most, last=False)):
        rainy, clean = (to_batch(image) for image in (pair.rainy, pair.clean))
        window = window_of(trainer.config)  # as its figures are measured
        derained = derain_whole(trainer.derainer, rainy, trainer.device, window)
        gain = (psnr(rainy, clean).item(), psnr(derained, clean).item())
        name = f"{pair.name} ({pair.kind})" if pair.kind else pair.name
        shown.append(Comparison(name, rainy[0], derained[0], {"PSNR-RGB": gain}))
    return shown


@torch.no_grad()
def _training(trainer: Trainer, most: int) -> list[Row]:
    domains, shown, count = trainer.domains, [], trainer.ranks.count
    for place in evenly(-(-len(domains.rainy) // count), most, last=False):
        i = place * count  # whose reward rank 0 keeps
        rainy = to_batch(domains.rainy[i])
        other = (i + len(domains.clean) // 2) % len(domains.clean)  # the demo's clean domain begins like its rainy one
        clean = to_batch(domains.clean[other])
        panel, score = _reward(trainer, i, "none passed the guards yet")
        made: list[Panel] = []
        if trainer.step:  # else by networks that have learned nothing
            derained = derain_whole(trainer.derainer, rainy, trainer.device)
            made = [Panel("derained", derained[0]), *_spoiled(trainer, "where it is spoiled", derained, rainy)]
            if isinstance(trainer.method, Painter):
                reward = panel.image if isinstance(panel.image, np.ndarray) else None
                painted = _paint(trainer, clean, rainy, _estimate(trainer, reward))[0]
                made.append(Panel("pseudo rainy", painted, "rain on another scene"))
        panels = [Panel("rainy", rainy[0]), *made, panel]
        if isinstance(panel.image, np.ndarray):
            panels += _spoiled(trainer, "where the reward is spoiled", to_batch(panel.image), rainy)
        shown.append(Row(domains.rainy.names[i], panels, outcome=_outcome(trainer, i), score=score))
    return shown


@torch.no_grad()
def _rewards(trainer: Trainer) -> list[Row]:
    """Of each outcome a few images: the photograph, the present candidate, and what the pool holds."""
    shown = []
    for place in range(len(OUTCOMES)):
        for index in [i for i, outcome in sorted(trainer.outcomes.items()) if outcome == place][:SHOWN_OUTCOMES]:
            rainy = to_batch(trainer.domains.rainy[index], trainer.device)
            window = sweep_window_of(trainer.config)
            with evaluating(trainer.derainer) as network, local_statistics(network, window):
                judged = judge(network, rainy, trainer.scorer, trainer.config.reward)
            now = OUTCOMES[int(judged.outcome)] if int(judged.outcome) > 1 else f"score {float(judged.score):.3f}"
            stored, score = _reward(trainer, index, "nothing")
            image = judged.image[0].cpu().nan_to_num()
            panels = [Panel("rainy", rainy[0].cpu()), Panel("candidate now", image, now), stored]
            name = trainer.domains.rainy.names[index]
            shown.append(Row(name, panels, outcome=_outcome(trainer, index), score=score))
    return shown


def _reward(trainer: Trainer, index: int, none: str) -> tuple[Panel, float | None]:
    """The best version that the pool holds of a training image, and its score."""
    if not trainer.pool.holds(index):
        return Panel("reward", None, none), None
    reward, score = (value.cpu() for value in trainer.pool.best(index))
    return Panel("reward", reward.numpy(), f"score {float(score):.3f}"), float(score)


def _spoiled(trainer: Trainer, caption: str, image: Tensor, rainy: Tensor) -> list[Panel]:
    """Heat where an image is spoiled, [1, 3, H, W] on the CPU; nothing of a score that gives no map."""
    if not knows_where(trainer.scorer):
        return []
    spoiled = trainer.scorer.map(image.to(trainer.device), rainy.to(trainer.device))[0, 0].cpu()
    shown = heat(to_bytes(image[0]), spoiled.numpy())
    return [Panel(caption, shown, f"{100 * float(spoiled.mean()):.0f} % on average; {LEGEND}")]


def _outcome(trainer: Trainer, index: int) -> str:
    """What became of an image's candidate in its last sweep; "" where it was in none."""
    place = trainer.outcomes.get(index)
    if place is None:
        return ""
    return OUTCOMES[place] if place < 2 else f"refused: {OUTCOMES[place]}"


def _reasons(log: list[dict[str, Any]]) -> str:
    """How often what happened in all sweeps."""
    total: Counter[str] = Counter()
    for row in (row for row in log if row.get("event") == "sweep"):
        reasons = row.get("reasons")
        total.update(
            {name: n for name, n in reasons.items() if isinstance(n, int)} if isinstance(reasons, dict) else {}
        )
    return "In all sweeps: " + ", ".join(f"{count} {reason}" for reason, count in total.most_common())


def _paint(trainer: Trainer, clean: Tensor, rainy: Tensor, estimate: Tensor | nn.Module) -> Tensor:
    """The pseudo rainy image of the largest top left rectangle that both images share.

    `estimate` is the clean estimate of the rainy image, or the network that makes it.
    """
    height, width = (min(a, b) for a, b in zip(clean.shape[-2:], rainy.shape[-2:], strict=True))
    if isinstance(estimate, nn.Module):
        with evaluating(estimate) as network:
            estimate = run_tiled(network, rainy.to(trainer.device))
    scene = torch.cat([image[..., :height, :width].to(trainer.device) for image in (clean, rainy, estimate)], dim=1)
    method = trainer.method
    assert isinstance(method, Painter)
    with painters(trainer) as nets:
        return run_tiled(lambda three: method.paint(nets, *three.split(3, dim=1)), scene).clamp(0, 1).cpu()


@contextlib.contextmanager
def painters(trainer: Trainer) -> Iterator[dict[str, nn.Module]]:
    """The networks that a run paints by, as they are saved; in training a call may move what one keeps."""
    kinds = [kind for kind in cast(Painter, trainer.method).PAINTERS if kind in trainer.method.trained(trainer.config)]
    nets = {kind: trainer.derainer if kind == "derainer" else getattr(trainer.nets, kind) for kind in kinds}
    with contextlib.ExitStack() as modes:
        for net in nets.values():
            modes.enter_context(evaluating(net))
        yield nets


def rain_from(trainer: Trainer) -> str:
    """What gives the rain that a run paints: the network whose clean estimate it goes by, pasting, or nothing."""
    if not isinstance(trainer.method, Painter):
        return NO_RAIN
    if not set(trainer.method.PAINTERS) <= set(trainer.method.trained(trainer.config)):
        return PASTED
    return trainer.method.rain_from(trainer.config, trainer.switched)


def _estimate(trainer: Trainer, reward: np.ndarray | None) -> Tensor | nn.Module:
    """The clean estimate that rain is painted by: the reward, where it gives the rain and exists, or a network."""
    kind = rain_from(trainer)
    if kind in (PASTED, "derainer") and reward is not None:
        return to_batch(reward)
    return trainer.derainer if kind in (PASTED, "derainer") else getattr(trainer.nets, kind)
