"""The quality of rewards: what each score chooses among a run's snapshots, and what the chosen are worth to stage 2.

    python bench/studies/reward_quality.py choice --data DIR  # each score, on rain over half of the clean images
    python bench/studies/reward_quality.py gain --data DIR --method cyclegan --iterations 2000 600 --first none oriented
    python bench/studies/reward_quality.py gain --data DIR --preset small --derainer restormer --iterations 2400 0

DIR holds clean, iqa and rain100l/{train_rainy,val/{rainy,clean}}. `choice` trains stage 1 of `small-gan` on the
rendered rain and the other half of the clean images, so that the truth behind every training image is known; no
validation scene is there; `finpercep`, without a file, is fitted as in a run. `gain` trains stage 1 of a method once
per seed, and stages 2 of equal length from it: without rewards, with the reward loss, with the method's switch too.
Everything is kept in --out, finished stages are not trained again, and one that was killed goes on. Prints Markdown
tables; --json also writes the figures, after every seed; beside each stage in --out lies a sheet of what it derains and
paints.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from gain_report import gain_tables
from gains import BRANCHES, UNPAIRED, Study
from seeds import parse_arguments
from stages import scorer_of, stage1
from torch import Tensor, nn

from rgsud_fast.config import Config, load_config
from rgsud_fast.data import Domains, FolderSet, Pair, load_domains, read_image, to_batch, to_tensor
from rgsud_fast.data.demo import near_rain
from rgsud_fast.data.listing import list_images
from rgsud_fast.data.rain import render_rain
from rgsud_fast.iqa import FinpercepScorer, Scorer, validity
from rgsud_fast.iqa.finpercep.figures import SPOILED
from rgsud_fast.iqa.finpercep.fit import auc
from rgsud_fast.iqa.finpercep.generated import spoiled_truth
from rgsud_fast.iqa.metrics import psnr
from rgsud_fast.networks import evaluating
from rgsud_fast.networks.known import DERAINERS
from rgsud_fast.rewards.own_faults import OwnFaults, fit_in_run, painted_pairs
from rgsud_fast.rewards.pool import RewardPool
from rgsud_fast.rewards.sweep import candidate
from rgsud_fast.system.device import pick_device
from rgsud_fast.system.files import write_text
from rgsud_fast.training.trainer import Trainer


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    if args.read:
        figures = [figure for path in args.read for figure in json.loads(path.read_text(encoding="utf-8"))]
    elif args.what == "choice":
        figures = choice(args)
        _write(args, figures)
    else:
        figures = []
        for seed in args.seeds:
            figures.append(Study(args, seed, lambda config, cache: load(args, config, cache), judge(args)).run())
            _write(args, figures)
    print((choice_table if args.what == "choice" else gain_tables)(figures))


def _write(args: argparse.Namespace, figures: list[dict[str, Any]]) -> None:
    if args.json:
        write_text(args.json, json.dumps(figures, indent=2) + "\n")


def load(args: argparse.Namespace, config: Config, cache: Path) -> Domains:
    """The images of `gain`: Rain100L's, or rendered rain, on which schedules may be chosen."""
    return render_data(args.data) if args.rain == "rendered" else load_domains(config.data, cache, print)


def judge(args: argparse.Namespace) -> Callable[[Domains, Config], Scorer]:
    """The score of `gain`, once there are images."""
    return lambda domains, config: scorer_of(args.scorer or config.reward.scorer, domains, config)


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


def field(text: str) -> dict[str, Any]:
    """A field of a configuration and its value, such as loss.reward=4."""
    name, _, value = text.partition("=")
    given = yaml.safe_load(value)
    for part in reversed(name.split(".")):
        given = {part: given}
    return given


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["choice", "gain"])
    parser.add_argument("--method", choices=UNPAIRED, default="rgsud", help="of gain")
    parser.add_argument("--preset", help="of gain; default: small, of rgsud small-gan")
    parser.add_argument("--derainer", choices=list(DERAINERS), help="of gain with rgsud")
    parser.add_argument("--iterations", type=int, nargs=2, metavar=("STAGE1", "STAGE2"), help="default: the preset's")
    parser.add_argument("--first", nargs="+", help="reward.first of gain, each in turn; default: the preset's")
    parser.add_argument("--branches", nargs="+", choices=list(BRANCHES), default=["without", "loss", "switch"])
    parser.add_argument("--rain", choices=["rain100l", "rendered"], default="rain100l", help="what gain trains on")
    parser.add_argument("--set", nargs="+", type=field, default=[], metavar="FIELD=VALUE", help="of gain's runs")
    parser.add_argument("--scorers", nargs="+", default=["domain", "niqe", "ensemble:[domain,niqe]"])
    parser.add_argument("--scorer", help="of the rewards of gain, such as finpercep:FILE; default: the preset's")
    parser.add_argument("--stage1", type=int, help="iterations of stage 1 of choice; default: the preset's")
    parser.add_argument("--fit", type=int, default=0, help="iterations of choice's fit of finpercep; 0: 2,600")
    parser.add_argument("--out", type=Path, default=Path("runs/reward-quality"), help="snapshots and decoded images")
    parser.add_argument("--threads", type=int, default=2)
    return parse_arguments(parser)


if __name__ == "__main__":
    main()
