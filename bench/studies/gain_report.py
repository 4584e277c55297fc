"""What is told of a study of gains: its references, the disagreement of crops, sheets of images, tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from seeds import paired_difference
from torch import Tensor, nn

from rgsud_fast.data import Pair, to_batch
from rgsud_fast.data.image_files import to_bytes, write_image
from rgsud_fast.iqa.metrics import fixed_filter, psnr
from rgsud_fast.methods.method import Painter
from rgsud_fast.networks import evaluating, local_statistics
from rgsud_fast.networks.tiles import run_tiled
from rgsud_fast.rewards.first import first_reward
from rgsud_fast.training.gallery import painters, rain_from
from rgsud_fast.training.trainer import Trainer

REFERENCES = {"rainy input": lambda image: image, "fixed filter": fixed_filter, "oriented filter": first_reward}
SHOWN, PATCH = 4, 224  # rows of a sheet, and the side of its patches, pixels


def references(pairs: Sequence[Pair]) -> dict[str, float]:
    """Mean PSNR-RGB of what learns nothing."""
    found = {name: [] for name in REFERENCES}
    for pair in pairs:
        rainy, clean = to_batch(pair.rainy), to_batch(pair.clean)
        for name, change in REFERENCES.items():
            found[name].append(float(psnr(change(rainy), clean)))
    return {name: sum(values) / len(values) for name, values in found.items()}


def disagreement(network: nn.Module, pairs: Sequence[Pair], crop: int, device: torch.device, side: int = 0) -> float:
    """Mean |G(crop) - crop of G(image)| over the middle training-sized crops of the rainy images, in grey levels.

    Training sees crops, sweeps and users see whole images: where G looks at global statistics the two differ. `side` is
    that of the windows of local statistics of whole images, 0 for none.
    """
    found = []
    with evaluating(network) as derainer:
        for pair in pairs:
            rainy = to_batch(pair.rainy, device)
            top, left = ((length - crop) // 2 for length in rainy.shape[-2:])
            window = (..., slice(top, top + crop), slice(left, left + crop))
            with local_statistics(derainer, side):
                whole = run_tiled(derainer, rainy)
            found.append((derainer(rainy[window]) - whole[window]).abs().mean())
    return 255 * float(torch.stack(found).mean())


@torch.no_grad()
def write_sheet(trainer: Trainer, path: Path) -> None:
    """Rows of rainy, derained and true validation patches, and of a clean image and what the method paints on it."""
    rows = []
    for place, pair in enumerate((trainer.domains.val or [])[:SHOWN]):
        rainy, truth = to_batch(pair.rainy, trainer.device), to_batch(pair.clean)
        with evaluating(trainer.derainer) as derainer:
            derained = run_tiled(derainer, rainy).clamp(0, 1)
        panels = [rainy, derained, truth]
        clean = to_batch(trainer.domains.clean[place * len(trainer.domains.clean) // SHOWN], trainer.device)
        if isinstance(trainer.method, Painter):
            panels += [clean, painted(trainer, patch_of(clean), patch_of(rainy))]
        rows.append(np.concatenate([to_bytes(patch_of(panel)[0].cpu()) for panel in panels], axis=1))
    write_image(path, np.concatenate(rows))


def painted(trainer: Trainer, clean: Tensor, rainy: Tensor) -> Tensor:
    """What the method paints on a clean patch for a rainy one."""
    method = trainer.method
    assert isinstance(method, Painter)
    kind = rain_from(trainer)
    estimator = getattr(trainer.nets, kind, trainer.derainer) if kind != "derainer" else trainer.derainer
    with evaluating(estimator) as network:
        estimate = network(rainy)
    with painters(trainer) as nets:
        return method.paint(nets, clean, rainy, estimate).clamp(0, 1)


def patch_of(image: Tensor) -> Tensor:
    """The middle patch, padded where the image is smaller."""
    height, width = image.shape[-2:]
    top, left = max(height - PATCH, 0) // 2, max(width - PATCH, 0) // 2
    cut = image[..., top : top + PATCH, left : left + PATCH]
    return torch.nn.functional.pad(cut, (0, PATCH - cut.shape[-1], 0, PATCH - cut.shape[-2]))


def gain_tables(figures: list[dict[str, Any]]) -> str:
    """A table per method, preset and derainer: a line per branch, with paired differences over seeds."""
    groups: dict[tuple[str, ...], dict[int, dict[str, Any]]] = {}
    for run in figures:
        about = tuple(run[name] for name in ("method", "preset", "derainer", "lengths", "rain"))
        seeds = groups.setdefault(about, {})  # branches may have been trained apart
        known = seeds.setdefault(run["seed"], run | {"rows": {}})
        known["rows"] = {**known["rows"], **run["rows"]}
    return "\n\n".join(_table(about, [seeds[seed] for seed in sorted(seeds)]) for about, seeds in groups.items())


def _table(about: tuple[str, ...], runs: list[dict[str, Any]]) -> str:
    method, preset, derainer, lengths, rain = about
    shown = ", ".join(f"{name} {value:.2f}" for name, value in runs[0]["references"].items())
    lines = [
        f"Method {method}{f' with {derainer}' if method == 'rgsud' else ''}, preset {preset}, {lengths} iterations, "
        f"{rain}, seeds {', '.join(str(run['seed']) for run in runs)}, validation PSNR-RGB, dB. {shown}.",
        "",
        "| | per seed | mean | against without | images with a reward | crop against whole, of 255 | CPU s a step |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(name for run in runs for name in run["rows"]):
        having = [run["rows"] for run in runs if name in run["rows"]]
        psnrs = [rows[name]["psnr"] for rows in having]
        against = [rows[_baseline(name, rows)]["psnr"] for rows in having if _baseline(name, rows)]
        difference = paired_difference(psnrs, against) if len(against) == len(psnrs) else ""
        before, after = ([rows[name].get(key) for rows in having] for key in ("rewarded before", "rewarded"))
        shares = f"{_mean(before, '.0%')}, then {_mean(after, '.0%')}" if None not in before else _mean(after, ".0%")
        apart = _mean([rows[name]["disagreement"] for rows in having], ".2f")
        if windowed := _mean([rows[name].get("with windows") for rows in having], ".2f"):
            apart += f", by windows {windowed}"
        lines.append(
            f"| {name} | {', '.join(f'{value:.2f}' for value in psnrs)} | {sum(psnrs) / len(psnrs):.2f} | {difference} "
            f"| {shares} | {apart} "
            f"| {_mean([rows[name]['cpu seconds'] for rows in having], '.3f')} |"
        )
    return "\n".join(lines)


def _baseline(name: str, rows: dict[str, Any]) -> str | None:
    """The branch without rewards that a branch is held against; None for itself, for stage 1, and where it lacks."""
    plain = "without rewards"
    seeded = plain + name[name.index(", first") :] if ", first" in name else plain
    found = next((one for one in (seeded, plain) if one in rows), None)
    return None if name.startswith((plain, "end of stage 1")) else found


def _mean(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return format(sum(known) / len(known), form) if known else ""
