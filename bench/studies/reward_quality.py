"""The quality of rewards: what each score chooses among a run's snapshots, and what the chosen are worth to stage 2.

    python bench/studies/reward_quality.py choice --data DIR  # each score, on rain over half of the clean images
    python bench/studies/reward_quality.py gain --data DIR    # stage 2 of `small` with rewards and without, on Rain100L

DIR holds clean, iqa and rain100l/{train_rainy,val/{rainy,clean}}. `choice` trains stage 1 of `small` on the rendered
rain and the other half of the clean images, so that the truth behind every training image is known; no validation scene
is there; `finpercep`, without a file, is fitted as in a run. `gain` trains stage 1 once per seed, and stages 2 of equal
length from it. Stage 1 is kept in --out and not trained again. Prints Markdown tables; --json also writes the figures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from seeds import paired_difference, parse_arguments
from stages import scorer_of, stage1, stages2
from torch import Tensor, nn

from rgsud_fast.config import load_config
from rgsud_fast.data import Domains, FolderSet, Pair, read_image, to_batch, to_tensor
from rgsud_fast.data.demo import near_rain
from rgsud_fast.data.listing import list_images
from rgsud_fast.data.rain import render_rain
from rgsud_fast.iqa import FinpercepScorer, validity
from rgsud_fast.iqa.finpercep.figures import SPOILED
from rgsud_fast.iqa.finpercep.fit import auc
from rgsud_fast.iqa.finpercep.generated import spoiled_truth
from rgsud_fast.iqa.metrics import psnr
from rgsud_fast.networks import evaluating
from rgsud_fast.rewards.own_faults import OwnFaults, fit_in_run, painted_pairs
from rgsud_fast.rewards.pool import RewardPool
from rgsud_fast.rewards.sweep import candidate
from rgsud_fast.system.device import pick_device
from rgsud_fast.system.files import write_text
from rgsud_fast.training.trainer import Trainer

WITHOUT: dict[str, Any] = {"loss": {"reward": 0.0}, "reward": {"switch": False}}
PLAIN: dict[str, Any] = {"reward": {"mirror": False, "grey_layer": False}}  # rewards as the derainer leaves them


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    if args.read:
        figures = [figure for path in args.read for figure in json.loads(path.read_text(encoding="utf-8"))]
    elif args.what == "choice":
        figures = choice(args)
    else:
        figures = [gain(args, seed) for seed in args.seeds]
    if args.json:
        write_text(args.json, json.dumps(figures, indent=2) + "\n")
    print((choice_table if args.what == "choice" else gain_table)(figures))


def choice(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Per score: validity, rank correlation with PSNR over snapshots, PSNR of its choice beside last, mean, oracle."""
    domains = render_data(args.data)
    truths = [pair.clean for pair in domains.val or []]
    config = load_config({"preset": "small-gan"} | _shorter(args))
    trainer = Trainer(config, domains, scorer_of("domain", domains, config), pick_device(config.device))
    snapshots = stage1(trainer, args.out / "choice")
    scorers = {name: scorer_of(name, domains, config) for name in args.scorers}
    for scorer in scorers.values():
        if isinstance(scorer, FinpercepScorer) and not scorer.networks:
            _fit_as_in_a_run(scorer, trainer, snapshots, args.fit)
    pools = {name: RewardPool(domains.rainy.sizes, config.reward.keep, device=trainer.device) for name in scorers}
    psnrs = torch.zeros(len(snapshots), len(truths))
    scores = {name: torch.zeros(len(snapshots), len(truths)) for name in scorers}
    plain = torch.zeros(len(truths))
    for row, weights in enumerate(snapshots):
        trainer.derainer.load_state_dict(torch.load(weights, weights_only=True))
        for name, pool in pools.items():
            pool.decay(config.reward.decay * getattr(scorers[name], "unit", 1.0))
        with evaluating(trainer.derainer) as derainer:
            for i, truth in enumerate(truths):
                rainy, clean = (to_batch(image, trainer.device) for image in (domains.rainy[i], truth))
                if row == len(snapshots) - 1:
                    plain[i] = psnr(derainer(rainy).clamp(0, 1), clean)
                derained = candidate(derainer, rainy, config.reward)[0]
                psnrs[row, i] = psnr(derained, clean)
                for name, scorer in scorers.items():
                    score = scorer.score(derained, rainy=rainy)
                    pools[name].update([i], derained, score)
                    scores[name][row, i] = score
        print(f"{weights.name}: {psnrs[row].mean():.2f} dB", flush=True)
    found = []
    for name, scorer in scorers.items():
        print(f"validity of {name}", flush=True)
        found.append({"scorer": short_name(name), "validity": validity(scorer, domains.val or [], trainer.device)})
        pool, clean = pools[name], [to_batch(truth) for truth in truths]
        rewards = torch.cat([psnr(reward_of(pool, i), truth) for i, truth in enumerate(clean)])
        best = torch.cat([psnr(to_tensor(pool.best(i)[0].cpu().numpy())[None], t) for i, t in enumerate(clean)])
        if isinstance(scorer, FinpercepScorer):
            found[-1] |= _map_quality(scorer, trainer.derainer, domains)
        found[-1] |= ranking(scores[name], psnrs) | {"keep": config.reward.keep, "plain": plain.mean().item()}
        found[-1] |= {"rewards": rewards.mean().item(), "chosen": best.mean().item()}
    return found


def _shorter(args: argparse.Namespace) -> dict[str, Any]:
    """Fewer iterations of stage 1, with a sweep each sixth of them; nothing where none are asked for."""
    if not args.stage1:
        return {}
    return {"stage1_iterations": args.stage1, "reward": {"sweep_every": max(args.stage1 // 6, 1)}}


def _fit_as_in_a_run(scorer: FinpercepScorer, trainer: Trainer, snapshots: list[Path], iterations: int) -> None:
    """Fit FinPercep-RM as a run does: to the clean domain, whose rain is not scored, and to the snapshots' faults."""
    own = OwnFaults(trainer.domains.clean, trainer.config.seed, None)
    for step, weights in enumerate(snapshots):
        trainer.derainer.load_state_dict(torch.load(weights, weights_only=True))
        own.keep(trainer.derainer, step, trainer.device)
    painted = painted_pairs(trainer.nets, trainer.domains.rainy, trainer.domains.clean, True, trainer.device)
    fit_in_run(scorer, own, painted, trainer.config.seed, iterations, trainer.device)


def _map_quality(scorer: FinpercepScorer, derainer: nn.Module, domains: Domains) -> dict[str, float]:
    """AUC of the map and its correlation with the truth, on what the last snapshot makes of the rainy images."""
    maps, truths = [], []
    for i, pair in enumerate(domains.val or []):
        rainy, clean = to_batch(domains.rainy[i]), to_batch(pair.clean)
        with evaluating(derainer):
            derained = derainer(rainy).clamp(0, 1)
        maps.append(scorer.map(derained, rainy).flatten())
        truths.append(spoiled_truth(derained, clean).flatten())
    found, truth = torch.cat(maps), torch.cat(truths)
    correlation = float(torch.corrcoef(torch.stack([found, truth]))[0, 1])
    return {"map AUC": auc(found, truth > SPOILED), "map correlation": correlation}


def reward_of(pool: RewardPool, index: int) -> Tensor:
    """What stage 2 takes as the reward of an image, whole: the mean of its versions, [1, 3, H, W] on the CPU."""
    filled = torch.isfinite(pool.scores[index])
    versions = pool.versions(index)[filled].cpu().permute(0, 3, 1, 2).float() / 255
    return versions.mean(0, keepdim=True)


def short_name(name: str) -> str:
    """A scorer's name without its files' folders."""
    kind, _, argument = name.partition(":")
    return name if argument.startswith("[") or not argument else f"{kind}:{Path(argument).name}"


def ranking(scores: Tensor, psnrs: Tensor) -> dict[str, float]:
    """How a score ranks the versions of each image: figures from scores and PSNRs, [versions, images] each.

    The rank correlation (Spearman, ties at their mean rank) is over images whose scores are finite and not all equal.
    """
    found = []
    for score, truth in zip(scores.T, psnrs.T, strict=True):
        if torch.isfinite(score).all() and score.std() > 0:
            ranks = torch.stack([mean_ranks(score), mean_ranks(truth)])
            found.append(torch.corrcoef(ranks)[0, 1])
    return {
        "versions": len(scores),
        "images": scores.shape[1],
        "ranked": len(found),
        "rank correlation": torch.stack(found).mean().item() if found else float("nan"),
        "last": psnrs[-1].mean().item(),
        "mean": psnrs.mean().item(),
        "oracle": psnrs.max(0).values.mean().item(),
    }


def mean_ranks(values: Tensor) -> Tensor:
    """The rank of each, [N]; equal ones share the mean of theirs."""
    below, up_to = ((values[:, None] > values).sum(1), (values[:, None] >= values).sum(1))
    return (below + up_to + 1).double() / 2


def gain(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Validation PSNR after stage 2 with rewards, with plain ones, and without, from the same stage 1."""
    changes: dict[str, dict[str, Any]] = {"with rewards": {}, "with plain rewards": PLAIN, "without": WITHOUT}
    branches = {name: (args.scorer, change) for name, change in changes.items() if name in args.branches}
    return stages2(args, seed, branches)


def render_data(data: Path) -> Domains:
    """Rain over every second clean image, the other half as the clean domain, and the pairs of both."""
    images = [read_image(path) for path in list_images(data / "clean")]
    rng = np.random.default_rng(0)
    wet, dry = images[::2], images[1::2]
    angles = rng.permutation(np.linspace(-35, 35, len(wet)))
    styles = [near_rain(rng, angle) for angle in angles]
    rainy = [render_rain(image, style, seed) for seed, (image, style) in enumerate(zip(wet, styles, strict=True))]
    names = [str(i) for i in range(len(images))]
    pairs = [Pair(name, one, other) for name, one, other in zip(names[::2], rainy, wet, strict=True)]
    return Domains(FolderSet.from_arrays(names[::2], rainy), FolderSet.from_arrays(names[1::2], dry), pairs)


def choice_table(figures: list[dict[str, Any]]) -> str:
    """One line per score."""
    first = figures[0]
    lines = [
        f"{first['images']} training images of known truth, {first['versions']} snapshots. The last snapshot's output "
        f"{first['plain']:.2f} dB; candidates: the last {first['last']:.2f}, mean {first['mean']:.2f}, oracle "
        f"{first['oracle']:.2f}. Rewards: the mean of the {first['keep']} best.",
        "",
        "| score | valid pairs | rank correlation with PSNR | best one | rewards | against the last candidate |",
        "|---|---|---|---|---|---|",
    ]
    for row in figures:
        lines.append(
            f"| `{row['scorer']}` | {row['validity']:.0%} | {row['rank correlation']:.2f} ({row['ranked']}) | "
            f"{row['chosen']:.2f} | {row['rewards']:.2f} | {row['rewards'] - row['last']:+.2f} |"
        )
    return "\n".join(lines)


def gain_table(figures: list[dict[str, Any]]) -> str:
    """One line per branch, with its paired difference to the same iterations without rewards."""
    by_seed: dict[int, dict[str, Any]] = {}
    for run in figures:  # branches may have been trained apart
        by_seed.setdefault(run["seed"], {}).update(run)
    figures = [by_seed[seed] for seed in sorted(by_seed)]
    lines = [
        f"Preset small-gan, Rain100L, seeds {', '.join(str(run['seed']) for run in figures)}, validation PSNR-RGB, dB.",
        "",
        "| stage 2 | per seed | mean | against without |",
        "|---|---|---|---|",
    ]
    against = [run.get("without", float("nan")) for run in figures]
    for name in ("end of stage 1", "without", "with plain rewards", "with rewards"):
        values = [run[name] for run in figures if name in run]
        if len(values) == len(figures):
            seeds = ", ".join(f"{value:.2f}" for value in values)
            lines.append(
                f"| {name} | {seeds} | {sum(values) / len(values):.2f} | {paired_difference(values, against)} |"
            )
    shares = [run["with rewards: images"] for run in figures if "with rewards: images" in run]
    if shares:
        lines += ["", f"Of the rainy images {min(shares):.0%} or more had a reward when stage 2 began."]
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["choice", "gain"])
    parser.add_argument("--branches", nargs="+", default=["with rewards", "with plain rewards", "without"])
    parser.add_argument("--scorers", nargs="+", default=["domain", "niqe", "ensemble:[domain,niqe]"])
    parser.add_argument("--scorer", default="domain", help="of the rewards of gain, such as finpercep:FILE")
    parser.add_argument("--stage1", type=int, help="iterations of stage 1; default: the preset's")
    parser.add_argument("--stage2", type=int, help="iterations of gain's stage 2; default: the preset's")
    parser.add_argument("--fit", type=int, default=0, help="iterations of the fit of finpercep; 0: 1,500")
    parser.add_argument("--out", type=Path, default=Path("runs/reward-quality"), help="snapshots and decoded images")
    parser.add_argument("--threads", type=int, default=2)
    return parse_arguments(parser)


if __name__ == "__main__":
    main()
