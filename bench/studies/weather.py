"""Where pasted rain helps and where it harms: heavy rain, mist, night and drops on the lens, rendered.

    python bench/studies/weather.py --data DIR [--iterations 600] [--only "night" "drops"]

Each weather is rendered over the scenes of `pasting.py`: 26 train, 8 are held out, and the clean domain is other scenes
by day. The derainer of the preset demo learns from pasted rain alone. What is to be found is the scene without streaks
and drops: in mist with its mist, at night with its darkness. PSNR-RGB of the held-out pairs: of the rainy image, of its
first reward, and of the derained image.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pasting
import torch
import torch.nn.functional as F
from seeds import parse_arguments

from rgsud_fast.config import load_config
from rgsud_fast.data import Domains, FolderSet, Pair, RainStyle, read_image, render_rain, to_batch
from rgsud_fast.data.listing import list_images
from rgsud_fast.iqa import make_scorer
from rgsud_fast.iqa.metrics import psnr
from rgsud_fast.rewards.first import first_reward
from rgsud_fast.system.files import write_text
from rgsud_fast.training.trainer import Trainer
from rgsud_fast.training.validation import validate

WEATHER = ("plain", "heavy", "mist", "night", "drops")


def main() -> None:
    """Train on what is asked for, a line for each run, then the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=list(WEATHER), choices=WEATHER)
    args = parse_arguments(parser)
    runs = [run for path in args.read or () for run in json.loads(path.read_text())]
    torch.set_num_threads(args.threads)
    for weather in () if args.read else args.only:
        domains, pairs = render(args.data, weather)
        for seed in args.seeds:
            runs.append({"weather": weather, "seed": seed} | measure(seed, args.iterations, domains, pairs))
            print(runs[-1], flush=True)
            if args.json:
                write_text(args.json, json.dumps(runs))
    print(table(runs))


def render(data: Path, weather: str) -> tuple[Domains, list[Pair]]:
    """The two domains, and the held-out pairs."""
    paths, rng = list_images(data / "clean"), np.random.default_rng(7)
    order = rng.permutation(len(paths)).tolist()
    wet, dry = order[: len(order) // 2], order[len(order) // 2 :]
    pairs = [Pair(paths[i].stem, *rain_over(read_image(paths[i]), weather, i)) for i in wet]
    clean = FolderSet.from_arrays([paths[i].stem for i in dry], [read_image(paths[i]) for i in dry])
    trained = pairs[: pasting.TRAINED]
    rainy = FolderSet.from_arrays([pair.name for pair in trained], [pair.rainy for pair in trained])
    return Domains(rainy, clean), pairs[pasting.TRAINED :]


def rain_over(clean: np.ndarray, weather: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A scene in that weather, and the same without streaks and drops, uint8 [H, W, 3] each."""
    rng = np.random.default_rng((seed, WEATHER.index(weather)))
    angle = rng.uniform(-35, 35)
    looks = {"length": 30, "width": 1.8, "density": 0.03, "brightness": 0.32, "angle_spread": 2.5}
    if weather == "drops":
        return with_drops(clean, rng), clean
    if weather == "heavy":
        looks = {"length": 45, "width": 2.2, "density": 0.09, "brightness": 0.4, "angle_spread": 4, "layers": 4}
    if weather == "mist":
        veil = rng.uniform(0.25, 0.45)
        clean = np.rint(clean * (1 - veil) + 215 * veil).astype(np.uint8)
    if weather == "night":
        lamp = np.array([1.0, 0.85, 0.6])  # sodium light
        clean = np.rint(255 * 0.5 * lamp * (clean / 255.0) ** 1.8).astype(np.uint8)
        looks["brightness"] = 0.22
    return render_rain(clean, RainStyle(angle, **looks), seed), clean


def with_drops(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Drops on the lens: discs that show the scene blurred, upside down and a little brighter."""
    height, width = clean.shape[:2]
    image = torch.from_numpy(clean.astype(np.float32)).permute(2, 0, 1)[None]
    blurred = F.avg_pool2d(image, 15, 1, 7, count_include_pad=False).flip(2)[0].permute(1, 2, 0).numpy()
    rows, columns = np.mgrid[:height, :width]
    result = clean.astype(np.float32)
    for _ in range(40):
        row, column, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(4, 16)
        inside = np.clip(radius - np.hypot(rows - row, columns - column), 0, 1)[:, :, None]  # a soft edge of a pixel
        result += inside * (1.1 * blurred + 8 - result)
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def measure(seed: int, iterations: int, domains: Domains, pairs: list[Pair]) -> dict[str, float]:
    """Train from first rewards on; PSNR of the held-out images as they are, as first rewards, derained."""
    every = iterations // 4
    fields: dict[str, Any] = {"preset": "demo", "seed": seed, "stage1_iterations": iterations, "device": "cpu"}
    fields |= {"optim": {"warmup": iterations // 20}}
    fields |= {"reward": {"sweep_every": every, "sweep_start": every / iterations}}
    config, device = load_config(fields), torch.device("cpu")
    scorer = make_scorer(config.reward.scorer, domains.rainy, domains.clean, seed, device)
    trainer = Trainer(config, domains, scorer, device)
    seeded = trainer.seed_rewards()
    while trainer.step < config.iterations:
        if trainer.sweep_due():
            trainer.sweep()
        trainer.iterate()
    rainy, first = [], []
    for pair in pairs:
        image, clean = to_batch(pair.rainy), to_batch(pair.clean)
        rainy.append(float(psnr(image, clean)))
        first.append(float(psnr(first_reward(image), clean)))
    derained = validate(trainer.derainer, pairs, device)["psnr_rgb"]
    entered = seeded.entered if seeded else 0
    return {"rainy": sum(rainy) / len(rainy), "first": sum(first) / len(first), "derained": derained, "seeded": entered}


def table(runs: list[dict[str, Any]]) -> str:
    """One line per weather: PSNR before, of first rewards, and after for each seed."""
    lines = [
        "| weather | rainy | first reward | derained, per seed | gain | images seeded |",
        "|---|---|---|---|---|---|",
    ]
    for weather in dict.fromkeys(run["weather"] for run in runs):
        some = [run for run in runs if run["weather"] == weather]
        after = [run["derained"] for run in some]
        gain = sum(after) / len(after) - some[0]["rainy"]
        shown = ", ".join(f"{value:.2f}" for value in after)
        lines.append(
            f"| {weather} | {some[0]['rainy']:.2f} | {some[0]['first']:.2f} | {shown} | {gain:+.2f} | "
            f"{some[0]['seeded']} of {pasting.TRAINED} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
