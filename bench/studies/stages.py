"""Stages 2 of one stage 1: what a score or its curriculum is worth is measured from the same weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from seeds import folders, snapshot

from rgsud_fast.config import Config, load_config, merge
from rgsud_fast.data import Domains, load_domains
from rgsud_fast.iqa import Scorer, make_scorer
from rgsud_fast.rewards.sweep import sweep
from rgsud_fast.system.device import pick_device
from rgsud_fast.training.trainer import Trainer
from rgsud_fast.training.validation import sweep_window_of, validate


def stages2(args: argparse.Namespace, seed: int, branches: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Train stage 1 of `small-gan` once, or take the one that is there, and of it a stage 2 for each branch.

    Args:
        args: data, out, and how long the stages are.
        seed: of the run.
        branches: name of the score of the rewards, and changes of the configuration.

    Returns:
        The seed, validation PSNR of the end of stage 1 and of each branch; per branch the share of images that had a
        reward when stage 2 began, the pool's mean scores after its sweeps, and norms of the reward loss's gradient.
    """
    lengths = {f"stage{n}_iterations": getattr(args, f"stage{n}", None) for n in (1, 2)}
    base: dict[str, Any] = {"preset": "small-gan", "seed": seed, "data": folders(args.data)}
    base |= {name: n for name, n in lengths.items() if n}
    config = load_config(base)
    domains = load_domains(config.data, args.out / f"cache-{seed}", print)
    first = Trainer(config, domains, scorer_of("domain", domains, config), pick_device(config.device))
    snapshots = stage1(first, args.out / f"gain-{seed}")
    state = torch.load(args.out / f"gain-{seed}" / "state.pt", weights_only=True)
    figures: dict[str, Any] = {"seed": seed}
    figures["end of stage 1"] = _psnr_after(first, snapshot(state))
    for name, (scorer, change) in branches.items():
        config = load_config(merge(base, merge({"log_gradients": True}, change)))
        trainer = Trainer(config, domains, scorer_of(scorer, domains, config), pick_device(config.device))
        trainer.load_state_dict(snapshot(state) | {"pool": trainer.pool.state_dict()})
        if config.loss.reward:
            now = snapshot(trainer.derainer.state_dict())
            replay(trainer, snapshots[:-1])  # the last is the end of stage 1, where no sweep is due
            trainer.derainer.load_state_dict(now)
            figures[f"{name}: images"] = share(trainer)
        figures |= {f"{name}: {key}": values for key, values in _stage2(trainer).items()}
        figures[name] = validate(trainer.derainer, domains.val or [], trainer.device)["psnr_rgb"]
        print(f"seed {seed}, {name}: {figures[name]:.3f} dB", flush=True)
    return figures


def _psnr_after(trainer: Trainer, state: dict[str, Any]) -> float:
    trainer.load_state_dict(state)
    return validate(trainer.derainer, trainer.domains.val or [], trainer.device)["psnr_rgb"]


def _stage2(trainer: Trainer) -> dict[str, list[float]]:
    """Train to the end; the mean scores after each sweep, and norms of the reward loss's gradient."""
    found: dict[str, list[float]] = {"scores": [], "gradients": []}
    while trainer.step < trainer.config.iterations:
        if trainer.reward_stages is not None:
            trainer.reward_stages.move_on()
        if trainer.sweep_due() and trainer.config.loss.reward:
            found["scores"].append(trainer.sweep().mean_score)
        norms = trainer.iterate().term_gradients
        found["gradients"] += [float(norm) for name, norm in norms.items() if name == "gradient_reward_derainer"]
    return found


def stage1(trainer: Trainer, folder: Path) -> list[Path]:
    """Train stage 1 and keep the derainer of every sweep and of the end; the sweeps themselves change no weight."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "state.pt").exists():
        while trainer.step < trainer.config.stage1_iterations:
            if trainer.sweep_due():
                torch.save(trainer.derainer.state_dict(), folder / f"step-{trainer.step:06d}.pt")
            trainer.iterate()
        torch.save(trainer.derainer.state_dict(), folder / f"step-{trainer.step:06d}.pt")
        torch.save(trainer.state_dict(), folder / "state.pt")
    return sorted(folder.glob("step-*.pt"))


def replay(trainer: Trainer, snapshots: list[Path]) -> None:
    """Do the sweeps of stage 1 by the derainers they were done by; the last one stays in the trainer."""
    everything, window = range(len(trainer.domains.rainy)), sweep_window_of(trainer.config)
    judged = trainer.scorer, trainer.pool, trainer.device, trainer.config.reward
    for weights in snapshots:
        trainer.derainer.load_state_dict(torch.load(weights, weights_only=True))
        sweep(trainer.derainer, trainer.domains.rainy, everything, *judged, window=window)


def share(trainer: Trainer) -> float:
    """The share of the rainy images that have a reward."""
    return int(trainer.pool.filled.sum()) / len(trainer.domains.rainy)


def scorer_of(name: str, domains: Domains, config: Config) -> Scorer:
    """The scorer of that name, fitted to the domains where it is a fitted one."""
    return make_scorer(name, domains.rainy, domains.clean, config.seed, pick_device(config.device))
