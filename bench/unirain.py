"""UniRain: experts, weights of types, judges, retrieval, distilled data, and costs.

    python bench/unirain.py moe --seeds 0 1 2      # soft and hard levels, beside NAFNets of equal blocks and size
    python bench/unirain.py reweight --seeds 0 1   # off, released, steady, printed: PSNR by type, and their spread
    python bench/unirain.py judges                 # planted faults by specialist, trusted loss, a foreign set
    python bench/unirain.py retrieval              # share of the query's type among what is found, level by level
    python bench/unirain.py types                  # of pairs without a name of a type: how often the network is right
    python bench/unirain.py distilled --seeds 0 1  # trained on good, merged and distilled pairs: one budget
    python bench/unirain.py cost                   # a step with experts against NAFNet's; an index, a pair, a search

DIR (--data, $RGSUD_DATA) holds clean: half of its scenes are rendered in all four types to train on, the others to
measure. All that train take the preset unirain-small with --iterations, but half of its levels and of its crops' side
unless --whole is given; reweight evaluates the types 40 times in a run. Judges and retrieval also take real_rain and
rain100l, and keep their index in --out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent / "studies"))
import distillation
import pair_types
from distillation import SMALL, preset

import rgsud_fast
from rgsud_fast.config import load_config, merge
from rgsud_fast.config.rain_types import FIT_ITERATIONS, RAIN_TYPES
from rgsud_fast.data import list_images
from rgsud_fast.methods.reweighting import type_weights
from rgsud_fast.networks.known import configured_derainer
from rgsud_fast.system.files import write_text

EVALUATIONS = 40  # of the types in a run; the first ten change no weight
MOE = {"derainer": "moe"}
# By name: fields of `network`. `equal blocks` has the blocks of the others without experts, `equal size` about as many
# parameters: 66,888 of 68,859.
NETWORKS: dict[str, dict[str, Any]] = {
    "soft, hard": MOE,
    "soft, soft": MOE | {"moe": {"decoder": "soft"}},
    "hard, hard": MOE | {"moe": {"encoder": "hard"}},
    "NAFNet, equal blocks": {"derainer": "nafnet"},
    "NAFNet, equal size": {"derainer": "nafnet", "derainer_width": 15, "derainer_encoder": [2, 1]},
}
# The same of the preset unirain: 23,604,003 parameters, and 23,498,363 with experts.
WIDE = NETWORKS | {"NAFNet, equal size": {"derainer": "nafnet", "derainer_middle": 9}}


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    figures = COMMANDS[args.what](args)
    if args.json:
        write_text(args.json, json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


def moe(args: argparse.Namespace) -> dict[str, Any]:
    """Which levels are hard, over seeds, beside plain NAFNets."""
    found = {}
    for name, network in NETWORKS.items():
        runs = [_train(args, seed, {"network": network}) for seed in args.seeds]
        found[name] = _summary(runs) | {"parameters": _parameters(network)}
    return found


def reweight(args: argparse.Namespace) -> dict[str, Any]:
    """The forms on real training; their simulation is tests/methods/test_reweighting.py."""
    found = {}
    for form in ("off", "released", "steady", "printed"):
        every = max(args.iterations // EVALUATIONS, 1)
        fields = {"reweight": {"form": form, "every": every}, "network": {"derainer": args.derainer}}
        found[form] = _summary([_train(args, seed, fields) for seed in args.seeds])
    return found


def cost(args: argparse.Namespace) -> dict[str, Any]:
    """Steps of the networks that are compared and of those of the preset unirain; of the weights alone."""
    small = {name: _network(fields) for name, fields in NETWORKS.items()}
    wide = {name: _network(fields, {"preset": "unirain"}) for name, fields in WIDE.items()}
    losses = torch.rand(300, 4).double().numpy() + 0.1
    began = time.perf_counter()
    type_weights(losses)
    weights = time.perf_counter() - began
    found = {"step": _steps(args, small, 8), "step of unirain": _steps(args, wide, 1)}
    return found | {"seconds of weights after 300 evaluations": weights}


def _steps(args: argparse.Namespace, networks: dict[str, Any], batch: int) -> dict[str, dict[str, float]]:
    """Seconds of a forward and a backward pass on crops of 64, best of rounds taken in turn."""
    image = torch.rand(batch, 3, 64, 64)
    best = dict.fromkeys(networks, float("inf"))
    for _ in range(args.rounds):
        for name, network in networks.items():
            began = time.process_time()
            network.train()(image).square().mean().backward()
            best[name] = min(best[name], time.process_time() - began)
            if hasattr(network, "balance"):
                network.balance()
    bases = [best[name] for name in ("NAFNet, equal blocks", "NAFNet, equal size")]
    return {
        name: {"seconds": value, "of equal blocks": value / bases[0], "of equal size": value / bases[1]}
        for name, value in best.items()
    }


def _train(args: argparse.Namespace, seed: int, fields: dict[str, Any]) -> dict[str, float]:
    """Figures on unseen scenes of a run on rendered pairs."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = _rendered(args, Path(folder))
        config: dict[str, Any] = {
            "seed": seed,
            "out": f"{folder}/run",
            "device": "cpu",
            "threads": args.threads,
            "stage1_iterations": args.iterations,
            "val_every": 0,
            "log_gradients": False,
            "live_gallery": False,
            "data": {"pairs": pairs / "train"},
        }
        result = rgsud_fast.train(merge(merge(preset(args), config), fields), quiet=True)
        figures: dict[str, float] = {}
        for kind in RAIN_TYPES:
            of = pairs / "test" / kind
            measured = rgsud_fast.evaluate(result.run_dir, of / "input", of / "target", device="cpu")
            figures |= {kind: measured["psnr_rgb"], f"input {kind}": measured["input_psnr_rgb"]}
    print(f"seed {seed}, {fields}: {figures}", flush=True)
    return figures


def _rendered(args: argparse.Namespace, folder: Path) -> Path:
    """Pairs of even scenes to train on, of odd ones to measure: links to them, so that names keep their rain."""
    for i, path in enumerate(list_images(args.data / "clean")):
        link = folder / ("even" if i % 2 == 0 else "odd") / path.name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(path.resolve())
    rgsud_fast.render_pairs(folder / "even", folder / "pairs" / "train")
    rgsud_fast.render_pairs(folder / "odd", folder / "pairs" / "test")
    return folder / "pairs"


def _summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Means over seeds by type, their mean and spread, and the deviation of the mean over seeds."""
    means = [statistics.mean(run[kind] for kind in RAIN_TYPES) for run in runs]
    types = {kind: statistics.mean(run[kind] for run in runs) for kind in runs[0]}
    levels = [types[kind] for kind in RAIN_TYPES]
    gains = [types[kind] - types[f"input {kind}"] for kind in RAIN_TYPES]
    found = {"types": types, "mean": statistics.mean(means), "spread": max(levels) - min(levels)}
    found |= {"least gain": min(gains), "gains' spread": max(gains) - min(gains)}
    return found | {"deviation": statistics.stdev(means) if len(means) > 1 else None}


def _network(fields: dict[str, Any], base: dict[str, Any] = SMALL) -> Any:
    torch.manual_seed(0)
    return configured_derainer(load_config(merge(base, {"network": fields})).network)


def _parameters(fields: dict[str, Any]) -> int:
    return sum(parameter.numel() for parameter in _network(fields).parameters())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=COMMANDS)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RGSUD_DATA", ".")))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--whole", action="store_true", help="Levels and crops as the preset has them.")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--derainer", choices=["moe", "nafnet"], default="nafnet", help="Of reweight.")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("runs/unirain"), help="Where indices and sets go.")
    parser.add_argument("--fit", type=int, default=FIT_ITERATIONS, help="Iterations of what tells types apart.")
    parser.add_argument("--spoiled", type=int, default=8, help="Pairs of each type that get each fault.")
    parser.add_argument("--device", default="cpu", help="Of judges and retrieval.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def costs(args: argparse.Namespace) -> dict[str, Any]:
    """Of a step, and of distillation."""
    return cost(args) | distillation.cost(args)


COMMANDS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "moe": moe,
    "reweight": reweight,
    "judges": distillation.judges,
    "retrieval": distillation.retrieval,
    "types": pair_types.types,
    "distilled": distillation.distilled,
    "cost": costs,
}

if __name__ == "__main__":
    main()
