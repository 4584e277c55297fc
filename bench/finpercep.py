"""FinPercep-RM: what it sees, what it chooses, how it can be gamed, and what a curriculum is worth.

    python bench/finpercep.py map [--runs RUN]              # fit on the clean images: maps, order, hacks, traps
    python bench/finpercep.py real --runs RUN ...           # maps of real derainers' results on unseen scenes
    python bench/finpercep.py rank --runs RUN ...           # scores among these results, against PSNR
    python bench/finpercep.py rewards --runs RUN ...        # NIQE of what scores choose of real photographs
    python bench/finpercep.py hacks --runs RUN ...          # blocks made worse in derained images, beside `domain`
    python bench/finpercep.py dynamic --runs RUN            # the gradient of the reward alone: score, PSNR, NIQE
    python bench/finpercep.py curriculum --seeds 0 1 2      # stage 2 without rewards, by domain, last stage, schedule
    python bench/finpercep.py cost                          # fit, score with map, sweep against its forward passes

DIR (--data, $RGSUD_DATA) holds clean, iqa and rain100l. All but `map` take the score that `map` left in
--out. The choice among snapshots and the gain in stage 2 are those of every score:

    python bench/studies/reward_quality.py choice --scorers domain finpercep:runs/finpercep/fin.safetensors
    python bench/studies/reward_quality.py gain --scorer finpercep:runs/finpercep/fin.safetensors
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent / "studies"))
from reward_quality import ranking
from seeds import paired_difference, parse_arguments
from stages import stages2

import rgsud_fast
from rgsud_fast.config import RewardConfig
from rgsud_fast.data import FolderSet, list_images, read_image, render_rain, to_batch
from rgsud_fast.iqa import FinpercepScorer, load_niqe_model, load_scorer, niqe
from rgsud_fast.iqa.finpercep.figures import HACKS, SPOILED, detection_rate
from rgsud_fast.iqa.finpercep.fit import auc, hold_apart
from rgsud_fast.iqa.finpercep.generated import broad_style, spoiled_truth
from rgsud_fast.iqa.metrics import psnr
from rgsud_fast.methods.losses import reward_gradient
from rgsud_fast.networks import evaluating
from rgsud_fast.networks.tiles import run_tiled
from rgsud_fast.networks.weights import load_network
from rgsud_fast.rewards.pool import RewardPool
from rgsud_fast.rewards.sweep import candidate, sweep
from rgsud_fast.system.files import write_text

ITERATIONS, EVERY, CROP, BATCH, RATE = 300, 50, 96, 4, 1e-4  # of the dynamic hack


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    figures = COMMANDS[args.what](args)
    if args.json:
        write_text(args.json, json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


def fit_map(args: argparse.Namespace) -> dict[str, Any]:
    """Fit `small` and say what it sees of held-out photographs, and how long it took."""
    began, used = time.perf_counter(), time.process_time()
    data = {"val_clean": args.data / "rain100l/val/clean", "iterations": args.iterations, "seed": args.seeds[0]}
    data["run"] = args.runs[0] if args.runs else None  # whose faults are learned, too
    figures = rgsud_fast.fit_finpercep(args.data / "clean", args.score, device=args.device, say=print, **data)
    figures["seconds"], figures["cpu_seconds"] = time.perf_counter() - began, time.process_time() - used
    figures["weak_over_clean"] = figures["mean_weak"] / figures["mean_clean"]  # trap 2: 3 or more
    return figures


def real(args: argparse.Namespace) -> dict[str, Any]:
    """Map AUC and correlation with the truth on what runs make of unseen scenes with rendered rain."""
    scorer, figures = _scorer(args), {}
    for run in args.runs:
        predicted, truth = [], []
        for clean, rainy, derained in _derained(args, run):
            predicted.append(scorer.map(derained, rainy).flatten())
            truth.append(spoiled_truth(derained, clean).flatten())
        maps, truths = torch.cat(predicted), torch.cat(truth)
        correlation = float(torch.corrcoef(torch.stack([maps, truths]))[0, 1])
        figures[str(run)] = {"auc": auc(maps, truths > SPOILED), "correlation": correlation}
    return figures


def rank(args: argparse.Namespace) -> dict[str, Any]:
    """How scores rank what runs make of unseen scenes, bare and as a reward would be: correlation with PSNR, chosen."""
    scorer = _scorer(args)
    scores = {"finpercep": scorer.score, "domain": scorer.base.score}
    scores |= {"its S": lambda image, rainy: scorer.parts(image, rainy)[0]}
    scores |= {"its map": lambda image, rainy: -scorer.map(image, rainy).mean((1, 2, 3))}
    rewarded, rows, psnrs = RewardConfig(mirror=True, grey_layer=True), {name: [] for name in scores}, []
    for run in args.runs:
        network = load_network(run, "derainer")
        for reward in (RewardConfig(), rewarded):
            with evaluating(network):
                found = [(clean, rainy, candidate(network, rainy, reward)[0]) for clean, rainy in _pairs(args)]
            psnrs.append(torch.cat([psnr(derained, clean) for clean, _, derained in found]))
            for name, score in scores.items():
                rows[name].append(torch.cat([score(derained, rainy) for _, rainy, derained in found]))
    truth = torch.stack(psnrs)
    figures: dict[str, Any] = {}
    for name, row in rows.items():
        best = torch.stack(row).argmax(0, keepdim=True)
        figures[name] = ranking(torch.stack(row), truth) | {"chosen": truth.gather(0, best).mean().item()}
    return figures


def rewards(args: argparse.Namespace) -> dict[str, Any]:
    """NIQE of what each score chooses among what runs make of real photographs; how often it is below the input's."""
    scorer = _scorer(args)
    scores = {"finpercep": scorer.score, "domain": scorer.base.score}
    model = load_niqe_model(args.data / "iqa/niqe_pris_params.npz")
    networks = [load_network(run, "derainer") for run in args.runs]
    kinds = RewardConfig(), RewardConfig(mirror=True, grey_layer=True)
    found: dict[str, list[float]] = {name: [] for name in ("input", *scores)}
    for path in list_images(args.data / "real_rain"):
        rainy, made = to_batch(read_image(path)), []
        for network in networks:
            with evaluating(network):
                made += [candidate(network, rainy, reward)[0] for reward in kinds]
        chosen = {name: int(torch.cat([score(one, rainy) for one in made]).argmax()) for name, score in scores.items()}
        found["input"].append(niqe(rainy, model).item())
        for name, place in chosen.items():
            found[name].append(niqe(made[place], model).item())
        print(path.name, chosen, {name: round(values[-1], 3) for name, values in found.items()}, flush=True)
    below = {name: sum(a < b for a, b in zip(found[name], found["input"], strict=True)) for name in scores}
    return {"niqe": {name: float(np.mean(values)) for name, values in found.items()}, "below the input's": below}


def hacks(args: argparse.Namespace) -> dict[str, Any]:
    """In how many derained images the score falls where a block is made worse; of `domain` beside it."""
    scorer = _scorer(args)
    scores: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"finpercep": scorer.score, "domain": scorer.base.score}
    triplets = [triplet for run in args.runs for triplet in _derained(args, run)]
    clean, rainy, derained = ([triplet[place] for triplet in triplets] for place in range(3))
    return {
        name: {hack: detection_rate(score, derained, rainy, change, clean=clean) for hack, change in HACKS.items()}
        for name, score in scores.items()
    }


def dynamic(args: argparse.Namespace) -> dict[str, Any]:
    """Follow a reward's gradient alone from one stage 1: the base score, and the whole of stage 3."""
    scorer = _scorer(args)
    rewards = {
        "global": lambda derained, rainy: torch.sigmoid(scorer.base.network(derained)),
        "fine": scorer.reward,
    }
    return {name: _follow(args, scorer, reward) for name, reward in rewards.items()}


def _follow(args: argparse.Namespace, scorer: FinpercepScorer, reward: Callable[..., Tensor]) -> list[dict[str, float]]:
    network = load_network(args.runs[0], "derainer").requires_grad_(True)
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    held_out = _pairs(args)
    model = load_niqe_model(args.data / "iqa/niqe_pris_params.npz")
    rainy = [read_image(path) for path in list_images(args.data / "rain100l/train_rainy")]
    rng, rows = np.random.default_rng(args.seeds[0]), []
    for step in range(ITERATIONS + 1):
        if step % EVERY == 0:
            rows.append({"step": step, **_standing(network, held_out, reward, model)})
            print(rows[-1], flush=True)
        crops = torch.cat([_crop(rainy[int(rng.integers(len(rainy)))], rng) for _ in range(BATCH)])
        derained = network(crops).clamp(0, 1)
        loss = reward_gradient(reward(derained, crops), crops, derained, RewardConfig().fidelity)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return rows


def _standing(network: nn.Module, pairs: Sequence[tuple[Tensor, Tensor]], reward, model) -> dict[str, float]:
    rows = []
    with evaluating(network):
        for clean, rainy in pairs:
            derained = run_tiled(network, rainy).clamp(0, 1)
            figures = reward(derained, rainy), psnr(derained, clean), niqe(derained, model)
            rows.append([float(figure) for figure in figures])
    return dict(zip(("score", "psnr", "niqe"), np.mean(rows, 0).tolist(), strict=True))


def curriculum(args: argparse.Namespace) -> dict[str, Any]:
    """Stages 2 of the same stages 1, without rewards and with each: PSNR, and its paired difference to the first."""
    score = f"finpercep:{args.score}"
    branches: dict[str, tuple[str, dict[str, Any]]] = {
        "without": ("domain", {"loss": {"reward": 0.0}, "reward": {"switch": False}}),
        "domain": ("domain", {}),
        "whole": (score, {}),
        "schedule": (score, {"reward": {"curriculum": "schedule"}}),
        "plateau": (score, {"reward": {"curriculum": "plateau"}}),
    }
    wanted = {name: branches[name] for name in args.branches}
    runs = [stages2(args, seed, wanted) for seed in args.seeds]
    found: dict[str, Any] = {"runs": runs}
    against = [run[args.branches[0]] for run in runs]
    for name in wanted:
        values = [run[name] for run in runs]
        found[name] = {"psnr": values, f"against {args.branches[0]}": paired_difference(values, against)}
    return found


def cost(args: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of score and map at 480 x 320, and a sweep's time over its forward passes."""
    scorer, image = _scorer(args), torch.rand(1, 3, 320, 480)
    figures = {"score_and_map_ms": 1e3 * _time(lambda: scorer.score_and_map(image, image))}
    rainy = FolderSet.from_arrays([*"abcd"], [np.full((320, 480, 3), 90 + i, np.uint8) for i in range(4)])
    network, pool = load_network(args.runs[0], "derainer"), RewardPool([(320, 480)] * 4, maps=True)
    reward = RewardConfig(map_weights=True)
    whole = _time(lambda: sweep(network, rainy, range(4), scorer, pool, torch.device("cpu"), reward))
    with evaluating(network):
        forward = _time(lambda: [run_tiled(network, to_batch(rainy[i])) for i in range(4)])
    return figures | {"sweep_over_forward": whole / forward}


def _time(work: Callable[[], Any], times: int = 7) -> float:
    """The least of a few, after one that is not counted, in seconds of the CPU: other processes stretch a clock."""
    work()
    seconds = []
    for _ in range(times):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def _scorer(args: argparse.Namespace) -> FinpercepScorer:
    scorer = load_scorer(args.score)
    assert isinstance(scorer, FinpercepScorer)
    return scorer


def _pairs(args: argparse.Namespace) -> list[tuple[Tensor, Tensor]]:
    """Scenes that `map` held apart, with rain of any kind, [1, 3, H, W] each."""
    images = [read_image(path) for path in list_images(args.data / "clean")]
    rng = np.random.default_rng(7)
    clean = [images[i] for i in hold_apart(len(images))[1]]
    return [(to_batch(one), to_batch(render_rain(one, broad_style(rng), int(rng.integers(2**62))))) for one in clean]


def _derained(args: argparse.Namespace, run: Path) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Clean, rainy and derained by a run."""
    network = load_network(run, "derainer")
    with evaluating(network):
        return [(clean, rainy, run_tiled(network, rainy).clamp(0, 1)) for clean, rainy in _pairs(args)]


def _crop(image: np.ndarray, rng: np.random.Generator) -> Tensor:
    top, left = (int(rng.integers(length - CROP + 1)) for length in image.shape[:2])
    return to_batch(np.ascontiguousarray(image[top : top + CROP, left : left + CROP]))


COMMANDS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "map": fit_map,
    **{command.__name__: command for command in (real, rank, rewards, hacks, dynamic, curriculum, cost)},
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=COMMANDS)
    parser.add_argument("--runs", type=Path, nargs="+", default=[], help="run folders or files of derainers")
    parser.add_argument("--out", type=Path, default=Path("runs/finpercep"))
    parser.add_argument("--iterations", type=int, help="of the fit; default: 2,600")
    parser.add_argument("--stage1", type=int, help="iterations of the curriculum's stages 1; default: the preset's")
    parser.add_argument("--stage2", type=int, help="of its stages 2; default: the preset's")
    parser.add_argument(
        "--branches", nargs="+", default=["without", "domain", "whole", "schedule"], help="of the curriculum"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    args = parse_arguments(parser)
    args.out.mkdir(parents=True, exist_ok=True)
    args.score = args.out / "fin.safetensors"
    if args.what in ("real", "rank", "rewards", "hacks", "dynamic", "cost") and not args.runs:
        parser.error(f"{args.what} needs --runs")
    return args


if __name__ == "__main__":
    main()
