"""The worth of rewards: stage 2 with and without its two uses of them, from the same stage 1.

One stage 1 per seed; then branches of equal length and schedule from its weights and pool: the reward loss and the
switch of the clean estimate together, each alone, and neither; and the other two forms of the reward loss. And what the
score's choice is worth: with every sweep of stage 1 the validation pairs are derained and scored, so that the version
the pool would have kept can be held against the last, the mean and the best one. Validation pairs are only measured.

    python bench/studies/ablation.py --data DIR     # DIR holds rain100l/{train_rainy,val/{rainy,clean}} and clean

Prints Markdown tables. Seeds are independent: --seeds 1 --json one.json trains one, --read *.json joins the tables.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from seeds import folders, paired_difference, parse_arguments, snapshot

from rgsud_fast.config import load_config, merge
from rgsud_fast.data import Domains, load_domains, to_batch
from rgsud_fast.iqa import Scorer, make_scorer
from rgsud_fast.iqa.metrics import psnr as decibels
from rgsud_fast.networks import evaluating
from rgsud_fast.networks.tiles import run_tiled
from rgsud_fast.system.device import pick_device
from rgsud_fast.system.files import write_text
from rgsud_fast.training.trainer import Trainer
from rgsud_fast.training.validation import validate

BRANCHES: dict[str, dict[str, Any]] = {
    "neither": {"loss": {"reward": 0.0}, "reward": {"switch": False}},
    "switch alone": {"loss": {"reward": 0.0}},
    "reward loss alone": {"reward": {"switch": False}},
    "both (psnr)": {},
    "both (mean)": {"loss": {"reward_form": "mean"}},
    "both (sum)": {"loss": {"reward_form": "sum"}},
}


def main() -> None:
    args = _arguments()
    if args.read:
        runs = [run for path in args.read for run in json.loads(path.read_text(encoding="utf-8"))]
    else:
        runs = [one_seed(args, seed) for seed in args.seeds]
    if args.json:
        write_text(args.json, json.dumps(runs, indent=2) + "\n")
    print("\n" + table(runs) + "\n\n" + choices(runs))


def one_seed(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train stage 1 and every branch; returns all figures."""
    base = {
        "preset": "small-gan",
        "seed": seed,
        "stage1_iterations": args.stage1,
        "stage2_iterations": args.stage2,
        # Stage 1 at a constant rate and stage 2 down from it: what a branch gains by the end of the cosine, all gain.
        "optim": {"hold": 1.0, "stage2_learning_rate": 5e-4},
        "loss": {"reward_form": "psnr"},  # of every branch that names no other
        "data": {**folders(args.data), "cache_dir": args.cache},
    }
    config = load_config(base)
    domains = load_domains(config.data, args.cache, print)
    device = pick_device(config.device)
    scorer = make_scorer(config.reward.scorer, domains.rainy, domains.clean, seed, device)
    first = Trainer(config, domains, scorer, device)
    versions = Versions(first)
    advance(first, config.stage1_iterations, versions.judge)
    figures = {"end of stage 1": psnr(first)}
    state = snapshot(first.state_dict())
    print(f"seed {seed}: end of stage 1 {figures['end of stage 1']:.2f} dB", flush=True)
    for name, change in BRANCHES.items():
        figures[name] = psnr(branch(base, change, domains, scorer, state))
        print(f"seed {seed}: {name} {figures[name]:.2f} dB", flush=True)
    filled = int(first.pool.filled.sum())
    return {
        "seed": seed,
        "stage1": args.stage1,
        "stage2": args.stage2,
        "psnr_rgb": figures,
        "pool": {"filled": filled, "of": len(domains.rainy)},
        "choice": versions.choice(),
    }


class Versions:
    """The validation images as derained at every sweep: their scores, and their PSNR, which the score never sees."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.scores: list[list[float]] = []
        self.psnrs: list[list[float]] = []

    def judge(self) -> None:
        """Derain and score every validation image."""
        scores, psnrs = [], []
        with evaluating(self.trainer.derainer) as derainer:
            for pair in self.trainer.domains.val:
                rainy, clean = (to_batch(image, self.trainer.device) for image in (pair.rainy, pair.clean))
                derained = run_tiled(derainer, rainy).clamp(0, 1)
                scores.append(float(self.trainer.scorer.score(derained, rainy=rainy)[0]))
                psnrs.append(float(decibels(derained, clean)[0]))
        self.scores.append(scores)
        self.psnrs.append(psnrs)

    def choice(self) -> dict[str, float]:
        """Mean PSNR of the version of each image that the score chooses, of the last, of all, of the best one; and the
        mean over images of the rank correlation (Spearman) of score and PSNR over versions."""
        scores, psnrs = torch.tensor(self.scores), torch.tensor(self.psnrs)  # [sweeps, images]
        chosen = psnrs.gather(0, scores.argmax(0, keepdim=True))
        ranks = [values.argsort(0).argsort(0).double() for values in (scores, psnrs)]
        centred = [rank - rank.mean(0) for rank in ranks]
        along = (centred[0] * centred[1]).sum(0) / (centred[0].square().sum(0) * centred[1].square().sum(0)).sqrt()
        return {
            "versions": len(scores),
            "chosen": chosen.mean().item(),
            "last": psnrs[-1].mean().item(),
            "mean": psnrs.mean().item(),
            "oracle": psnrs.max(0).values.mean().item(),
            "rank correlation": along.mean().item(),
        }


def branch(
    base: dict[str, Any], change: dict[str, Any], domains: Domains, scorer: Scorer, state: dict[str, Any]
) -> Trainer:
    """Train stage 2 with one change of the configuration, from a copy of stage 1's state."""
    config = load_config(merge(base, change))
    trainer = Trainer(config, domains, scorer, pick_device(config.device))
    trainer.load_state_dict(snapshot(state))
    advance(trainer, config.iterations)
    return trainer


def advance(trainer: Trainer, end: int, swept: Callable[[], None] = lambda: None) -> None:
    """Iterate up to step `end`, with the sweeps that fall due; `swept` is called after each."""
    began = time.perf_counter()
    while trainer.step < end:
        if trainer.sweep_due():
            trainer.sweep()
            swept()
        loss = trainer.iterate().loss
        if not torch.isfinite(loss):
            raise SystemExit(f"the loss is not finite at step {trainer.step}")
    print(f"  step {end}: {time.perf_counter() - began:.0f} s", flush=True)


def psnr(trainer: Trainer) -> float:
    return validate(trainer.derainer, trainer.domains.val, trainer.device)["psnr_rgb"]


def table(runs: list[dict[str, Any]]) -> str:
    """PSNR per branch, and its paired difference to `neither` with the standard error over seeds."""
    lines = [
        f"Preset small-gan, {runs[0]['stage1']} + {runs[0]['stage2']} iterations, seeds "
        f"{', '.join(str(run['seed']) for run in runs)}, validation PSNR-RGB in dB.",
        "",
        "| branch | per seed | mean | against neither |",
        "|---|---|---|---|",
    ]
    against = [run["psnr_rgb"]["neither"] for run in runs]
    for name in runs[0]["psnr_rgb"]:
        values = [run["psnr_rgb"][name] for run in runs]
        seeds = ", ".join(f"{value:.2f}" for value in values)
        lines.append(f"| {name} | {seeds} | {sum(values) / len(values):.2f} | {paired_difference(values, against)} |")
    return "\n".join(lines)


def choices(runs: list[dict[str, Any]]) -> str:
    """What the score chooses among the versions of the validation images, beside what it could have chosen."""
    names = list(runs[0]["choice"])
    lines = ["| seed | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for run in runs:
        lines.append(f"| {run['seed']} | " + " | ".join(f"{run['choice'][name]:.4g}" for name in names) + " |")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage1", type=int, default=1500, help="iterations of stage 1")
    parser.add_argument("--stage2", type=int, default=500, help="iterations of each branch")
    parser.add_argument("--cache", type=Path, default=Path("runs/ablation-cache"), help="decoded images")
    return parse_arguments(parser)


if __name__ == "__main__":
    main()
