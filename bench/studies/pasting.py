"""The share of each part in results: first rewards, pasted pairs, generator, reward loss, switch, on rendered rain.

    python bench/studies/pasting.py --data DIR [--iterations 1000] [--only "pasted" "both"]

DIR holds clean. Rain of two families, steep and thin or of any angle up to 35 degrees, is rendered over half of its
images: 26 scenes train, 8 are held out, and the other half of the images is the clean domain. Every variant has the
derainer and crops of the preset demo, and PSNR-RGB is of the held-out pairs. Nothing of Rain100L takes part.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from seeds import paired_difference, parse_arguments

from rgsud_fast.config import PRESETS, load_config, merge
from rgsud_fast.data import Domains, FolderSet, Pair, RainStyle, read_image, render_rain
from rgsud_fast.data.demo import near_rain
from rgsud_fast.data.listing import list_images
from rgsud_fast.iqa import make_scorer
from rgsud_fast.system.device import pick_device
from rgsud_fast.system.files import write_text
from rgsud_fast.training.trainer import Trainer
from rgsud_fast.training.validation import validate

FAMILIES = ("steep", "any angle")
TRAINED = 26  # scenes; the rest is held out
GENERATOR = {
    "loss": PRESETS["small-gan"]["loss"] | {"adversarial": 1.0, "pair": 1.0},
    "optim": {name: PRESETS["small-gan"]["optim"][name] for name in PRESETS["small-gan"]["optim"] if "discr" in name},
}
SECOND = 0.2  # share of the iterations that is stage 2 in variants with the reward loss
VARIANTS: dict[str, dict[str, Any]] = {
    "pasted": {},
    "the score decides": {"reward": {"newest": False}},
    "clean photographs alone": {"loss": {"pasted_on_rewards": 0.0}},
    "pasted, reward loss": {},
    "both": GENERATOR,
    "both, no first rewards": merge(GENERATOR, {"reward": {"first": "none"}}),
    "generator": merge(GENERATOR, {"loss": {"pasted": 0.0}, "reward": {"first": "none", "newest": False}}),
    "both, switch and reward loss": GENERATOR,
    "both, reward loss": merge(GENERATOR, {"reward": {"switch": False}}),
}
REFERENCE = "pasted"
WITH_STAGE_2 = ("pasted, reward loss", "both, switch and reward loss", "both, reward loss")


def main() -> None:
    """Train what is asked for, a line for each run, then the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    args = parse_arguments(parser)
    if args.read:
        print(table([run for path in args.read for run in json.loads(path.read_text())]))
        return
    torch.set_num_threads(args.threads)
    domains, runs = render_data(args.data), []
    for seed in args.seeds:
        for name in args.only:
            runs.append({"variant": name, "seed": seed} | measure(name, seed, args.iterations, *domains))
            print(runs[-1], flush=True)
            if args.json:
                write_text(args.json, json.dumps(runs))
    print(table(runs))


def render_data(data: Path) -> tuple[Domains, dict[str, list[Pair]]]:
    """The two domains, and the held-out pairs of each family."""
    paths, rng = list_images(data / "clean"), np.random.default_rng(7)
    order = rng.permutation(len(paths)).tolist()
    wet, dry = order[: len(order) // 2], order[len(order) // 2 :]
    rainy: dict[str, np.ndarray] = {}
    pairs: dict[str, list[Pair]] = {family: [] for family in FAMILIES}
    for place, index in enumerate(wet):
        clean, name = read_image(paths[index]), paths[index].stem
        for seed, family in enumerate(FAMILIES, start=2 * place):
            rain = render_rain(clean, style_of(family, rng), seed)
            if place < TRAINED:
                rainy[f"{name} {family}"] = rain
            else:
                pairs[family].append(Pair(name, rain, clean))
    clean_set = FolderSet.from_arrays([paths[i].stem for i in dry], [read_image(paths[i]) for i in dry])
    return Domains(FolderSet.from_arrays(list(rainy), rainy.values()), clean_set), pairs


def style_of(family: str, rng: np.random.Generator) -> RainStyle:
    """Steep thin streaks in two layers, or the demo's."""
    if family != FAMILIES[0]:
        return near_rain(rng, rng.uniform(-35, 35))
    looks = {"length": (14, 45), "width": (1.3, 2.4), "density": (0.015, 0.045), "brightness": (0.22, 0.42)}
    return RainStyle(rng.normal(0, 10), **{name: rng.uniform(*ends) for name, ends in looks.items()}, angle_spread=2.5)


def measure(name: str, seed: int, iterations: int, domains: Domains, pairs: dict[str, list[Pair]]) -> dict[str, float]:
    """Train one variant from its first rewards on; PSNR of each family, and the seconds it took."""
    second = round(SECOND * iterations) if name in WITH_STAGE_2 else 0
    every = (iterations - second) // 4
    base = {
        "preset": "demo",
        "seed": seed,
        "stage1_iterations": iterations - second,
        "stage2_iterations": second,
        "optim": {"warmup": iterations // 20, "stage2_learning_rate": 5e-4},
        "reward": {"sweep_every": every, "sweep_start": every / max(iterations - second, 1)},
    }
    config = load_config(merge(base, VARIANTS[name]))
    device, began = pick_device(config.device), time.perf_counter()
    scorer = make_scorer(config.reward.scorer, domains.rainy, domains.clean, seed, device)
    trainer = Trainer(config, domains, scorer, device)
    trainer.seed_rewards()
    while trainer.step < config.iterations:
        if trainer.sweep_due():
            trainer.sweep()
        trainer.iterate()
    seconds = time.perf_counter() - began
    figures = {family: validate(trainer.derainer, pairs[family], device)["psnr_rgb"] for family in FAMILIES}
    return figures | {"seconds": round(seconds)}


def table(runs: list[dict[str, Any]]) -> str:
    """One line per variant: the mean of both families for each seed, and the paired difference to the first variant."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for run in runs:
        found.setdefault(run["variant"], {})[run["seed"]] = run
    lines = ["| variant | steep | any angle | mean per seed | against pasted | seconds |", "|---|---|---|---|---|---|"]
    for name, by_seed in found.items():
        seeds = sorted(by_seed)
        means = {seed: sum(by_seed[seed][family] for family in FAMILIES) / len(FAMILIES) for seed in seeds}
        each = [f"{sum(by_seed[seed][family] for seed in seeds) / len(seeds):.2f}" for family in FAMILIES]
        both = [seed for seed in seeds if seed in found.get(REFERENCE, {})]
        against = [sum(found[REFERENCE][seed][family] for family in FAMILIES) / len(FAMILIES) for seed in both]
        gain = paired_difference([means[seed] for seed in both], against) if both and name != REFERENCE else ""
        seconds = sum(by_seed[seed]["seconds"] for seed in seeds) / len(seeds)
        shown = ", ".join(f"{means[seed]:.2f}" for seed in seeds)
        lines.append(f"| {name} | {' | '.join(each)} | {shown} | {gain} | {seconds:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
