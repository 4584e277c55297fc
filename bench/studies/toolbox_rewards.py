"""What a toolbox's candidates are worth to a run: how many enter the pool, and the gain in stage 2, with and without.

    python bench/studies/toolbox_rewards.py BOX --data DIR [--stage1 300] [--stage2 100] [--images 16]

Short runs of a narrow derainer on the first so many rainy images of DIR/rain100l/train_rainy, in which the score
decides what enters the pool; the same seeds with the toolbox and without. PSNR-RGB is of DIR/rain100l/val.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from seeds import paired_difference, parse_arguments

from rgsud_fast.config import load_config
from rgsud_fast.data import Domains, FolderSet, Pair, read_image
from rgsud_fast.data.listing import list_images
from rgsud_fast.iqa import make_scorer
from rgsud_fast.system.device import pick_device
from rgsud_fast.system.files import write_text
from rgsud_fast.training.trainer import Trainer
from rgsud_fast.training.validation import validate

FIGURES = ("before stage 2", "end", "gain in stage 2")


def main() -> None:
    """Train with and without the toolbox, a line for each run, then the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("box", type=Path)
    parser.add_argument("--stage1", type=int, default=300)
    parser.add_argument("--stage2", type=int, default=100)
    parser.add_argument("--images", type=int, default=16, help="rainy ones to train on")
    args = parse_arguments(parser)
    if args.read:
        print(table([run for path in args.read for run in json.loads(path.read_text())]))
        return
    torch.set_num_threads(1)
    domains, pairs = read_data(args.data, args.images)
    runs: list[dict[str, Any]] = []
    for seed in args.seeds:
        for box in (None, args.box):
            runs.append({"box": box is not None, "seed": seed} | measure(box, seed, args, domains, pairs))
            print(runs[-1], flush=True)
            if args.json:
                write_text(args.json, json.dumps(runs, indent=2) + "\n")
    print(table(runs))


def read_data(data: Path, images: int) -> tuple[Domains, list[Pair]]:
    """The two domains, and the held-out pairs."""

    def folder(name: str, most: int | None = None) -> FolderSet:
        paths = list_images(data / name)[:most]
        return FolderSet.from_arrays([path.stem for path in paths], [read_image(path) for path in paths])

    held_out = data / "rain100l/val"
    both = zip(list_images(held_out / "rainy"), list_images(held_out / "clean"), strict=True)
    pairs = [Pair(rainy.stem, read_image(rainy), read_image(clean)) for rainy, clean in both]
    return Domains(folder("rain100l/train_rainy", images), folder("clean")), pairs


def measure(
    box: Path | None, seed: int, args: argparse.Namespace, domains: Domains, pairs: list[Pair]
) -> dict[str, Any]:
    """One run: PSNR before and after stage 2, what entered the pool in its sweeps, and the seconds it took."""
    config = load_config(
        {
            "preset": "small",
            "seed": seed,
            "stage1_iterations": args.stage1,
            "stage2_iterations": args.stage2,
            "network": {"derainer_width": 12, "derainer_encoder": [1, 1], "derainer_decoder": [1, 1]},
            "optim": {"warmup": args.stage1 // 20, "stage2_learning_rate": 5e-4},
            "reward": {"newest": False, "sweep_every": args.stage1 // 2, "sweep_start": 0.5, "toolbox": box},
        }
    )
    device, began = pick_device(config.device), time.process_time()
    scorer = make_scorer(config.reward.scorer, domains.rainy, domains.clean, seed, device)
    trainer = Trainer(config, domains, scorer, device)
    trainer.seed_rewards()
    swept, found = [], {}
    while trainer.step < config.iterations:
        if trainer.step == args.stage1:
            found["before stage 2"] = validate(trainer.derainer, pairs, device)["psnr_rgb"]
        if trainer.sweep_due():
            swept.append(trainer.sweep())
        trainer.iterate()
    found["end"] = validate(trainer.derainer, pairs, device)["psnr_rgb"]
    found["gain in stage 2"] = found["end"] - found["before stage 2"]
    counts = {"candidates": sum(one.images for one in swept), "entered": sum(one.entered for one in swept)}
    counts["from the box"] = sum(one.toolbox or 0 for one in swept)
    score = {"score of the pool": swept[-1].mean_score} if swept else {}
    return found | counts | score | {"cpu_seconds": round(time.process_time() - began)}


def table(runs: list[dict[str, Any]]) -> str:
    """The figures of each kind of run over seeds, and their paired differences."""
    without, with_box = ([run for run in runs if run["box"] == kind] for kind in (False, True))
    lines = ["| PSNR, dB | without | with the toolbox | difference |", "|---|---|---|---|"]
    for name in FIGURES:
        a, b = ([run[name] for run in kind] for kind in (without, with_box))
        shown = [", ".join(f"{value:.2f}" for value in values) for values in (a, b)]
        lines.append(f"| {name} | {' | '.join(shown)} | {paired_difference(b, a) if len(a) == len(b) else ''} |")
    entered, ours = (sum(run[name] for run in with_box) for name in ("entered", "from the box"))
    lines.append(f"\nof {sum(run['candidates'] for run in with_box)} images swept {entered} got a new reward, "
                 f"{ours} of them the toolbox's ({ours / max(entered, 1):.0%})")  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    main()
