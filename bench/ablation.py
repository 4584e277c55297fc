"""What the rewards are worth: stage 2 with and without its two uses of them, from the same stage 1.

One stage 1 per seed; then branches of equal length and schedule from its weights and pool: the reward loss and the
switch of the clean estimate together, each alone, and neither; and the other two forms of the reward loss. Validation
pairs are only measured. Prints a Markdown table; --json writes all figures.

    python bench/ablation.py --data DIR     # DIR holds rain100l/{train_rainy,val/{rainy,clean}} and clean
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import torch

from rgsud_fast.config import load_config
from rgsud_fast.data import Domains, load_domains
from rgsud_fast.device import pick_device
from rgsud_fast.files import write_text
from rgsud_fast.iqa import Scorer, make_scorer
from rgsud_fast.reports import validate
from rgsud_fast.trainer import Trainer

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
    base = {
        "preset": "small",
        "stage1_iterations": args.stage1,
        "stage2_iterations": args.stage2,
        "data": {
            "rainy": args.data / "rain100l/train_rainy",
            "clean": args.data / "clean",
            "val_rainy": args.data / "rain100l/val/rainy",
            "val_clean": args.data / "rain100l/val/clean",
            "cache_dir": args.cache,
        },
    }
    results: dict[str, list[float]] = {"end of stage 1": []}
    pools = []
    for seed in range(args.seeds):
        config = load_config(base | {"seed": seed})
        domains = load_domains(config.data, args.cache, seed, print)
        device = pick_device(config.device)
        scorer = make_scorer(config.reward.scorer, domains.rainy, domains.clean, seed, device)
        first = Trainer(config, domains, scorer, device)
        advance(first, config.stage1_iterations)
        results["end of stage 1"].append(psnr(first))
        pools.append({"filled": int(first.pool.filled.sum()), "of": len(domains.rainy)})
        state = snapshot(first.state_dict())
        print(f"seed {seed}: end of stage 1 {results['end of stage 1'][-1]:.2f} dB", flush=True)
        for name, change in BRANCHES.items():
            value = psnr(branch(base | {"seed": seed}, change, domains, scorer, state))
            results.setdefault(name, []).append(value)
            print(f"seed {seed}: {name} {value:.2f} dB", flush=True)
    print("\n" + table(results, args))
    if args.json:
        figures = {"stage1": args.stage1, "stage2": args.stage2, "psnr_rgb": results, "pools": pools}
        write_text(args.json, json.dumps(figures, indent=2) + "\n")


def branch(
    base: dict[str, Any], change: dict[str, Any], domains: Domains, scorer: Scorer, state: dict[str, Any]
) -> Trainer:
    """Train stage 2 with one change of the configuration, from a copy of stage 1's state."""
    config = load_config(base | change)
    trainer = Trainer(config, domains, scorer, pick_device(config.device))
    trainer.load_state_dict(snapshot(state))
    advance(trainer, config.iterations)
    return trainer


def advance(trainer: Trainer, end: int) -> None:
    """Iterate up to step `end`, with the sweeps that fall due."""
    began = time.perf_counter()
    while trainer.step < end:
        if trainer.sweep_due():
            trainer.sweep()
        loss = trainer.iterate().loss
        if not torch.isfinite(loss):
            raise SystemExit(f"the loss is not finite at step {trainer.step}")
    print(f"  step {end}: {time.perf_counter() - began:.0f} s", flush=True)


def psnr(trainer: Trainer) -> float:
    return validate(trainer.derainer, trainer.domains.val, trainer.device)["psnr_rgb"]


def snapshot(state: Any) -> Any:
    """A deep copy of nested dicts and lists of tensors."""
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {key: snapshot(value) for key, value in state.items()}
    return [snapshot(value) for value in state] if isinstance(state, list) else state


def table(results: dict[str, list[float]], args: argparse.Namespace) -> str:
    """PSNR per branch, and its paired difference to `neither` with the standard error over seeds."""
    lines = [
        f"Preset small, {args.stage1} + {args.stage2} iterations, {args.seeds} seeds, validation PSNR-RGB in dB.",
        "",
        "| branch | per seed | mean | against neither |",
        "|---|---|---|---|",
    ]
    for name, values in results.items():
        seeds = ", ".join(f"{value:.2f}" for value in values)
        lines.append(f"| {name} | {seeds} | {sum(values) / len(values):.2f} | {paired(values, results['neither'])} |")
    return "\n".join(lines)


def paired(values: list[float], against: list[float]) -> str:
    differences = [a - b for a, b in zip(values, against, strict=True)]
    count, mean = len(differences), sum(differences) / len(differences)
    if count < 2:
        return f"{mean:+.2f}"
    error = math.sqrt(sum((d - mean) ** 2 for d in differences) / (count - 1) / count)
    return f"{mean:+.2f} ± {error:.2f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = os.environ.get("RGSUD_DATA")
    parser.add_argument("--data", type=Path, default=data, required=data is None, help="default: $RGSUD_DATA")
    parser.add_argument("--stage1", type=int, default=1500, help="iterations of stage 1")
    parser.add_argument("--stage2", type=int, default=500, help="iterations of each branch")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0")
    parser.add_argument("--cache", type=Path, default=Path("runs/ablation-cache"), help="decoded images")
    parser.add_argument("--json", type=Path, help="file for all figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
