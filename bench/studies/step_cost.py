"""Memory and time of a training step on the CPU: each method, and each derainer with and without checkpoints.

    python bench/studies/step_cost.py methods --preset paper    # one step of each method that reads no labelled pairs
    python bench/studies/step_cost.py derainers                 # a forward and a backward pass of one image of 256²

On random crops of --crop pixels, --batch of them, in a fresh process per case: peak resident memory less what
the networks and libraries take before the first step, and the CPU time of the last of --steps. What does not fit into
memory is told by its exit code.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from gains import UNPAIRED

from rgsud_fast.config import load_config
from rgsud_fast.data import Domains, FolderSet
from rgsud_fast.iqa import make_scorer
from rgsud_fast.methods.build import build_networks
from rgsud_fast.networks.known import DERAINERS
from rgsud_fast.system.device import pick_device
from rgsud_fast.training.trainer import Trainer

CHECKPOINTS = ("none", "block")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("methods", "derainers"))
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--names", nargs="+", help="these methods or derainers alone")
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", nargs=2, metavar=("NAME", "CHECKPOINT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one:
        print(json.dumps((method if args.what == "methods" else derainer)(args, *args.one)))
        return
    names = args.names or (UNPAIRED if args.what == "methods" else list(DERAINERS))
    print(f"| {args.what}, preset {args.preset}, batch {args.batch}, {args.crop}² | `checkpoint` | GiB | CPU s |")
    print("|---|---|---|---|", flush=True)
    for name in names:
        for checkpoint in CHECKPOINTS if args.what == "derainers" or name in ("rgsud", "csud") else ("none",):
            told = _in_a_process(name, checkpoint)
            print(f"| `{name}` | {checkpoint} | {told} |", flush=True)


def _in_a_process(name: str, checkpoint: str) -> str:
    command = [sys.executable, __file__, *sys.argv[1:], "--one", name, checkpoint]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"exit code {done.returncode} | {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ''}"
    figures = json.loads(done.stdout.splitlines()[-1])
    return f"{figures['gib']:.2f} | {figures['seconds']:.2f}"


def method(args: argparse.Namespace, name: str, checkpoint: str) -> dict[str, float]:
    """Iterations of stage 1, both optimisers' steps included."""
    preset = "small-gan" if (name, args.preset) == ("rgsud", "small") else args.preset  # `small` paints no rain
    fields = {"preset": preset, "method": name, "batch": args.batch, "crop": args.crop, "log_gradients": False}
    own = {"network": {"checkpoint": checkpoint}} if checkpoint != "none" else {}
    config = load_config(fields | own | {"optim": {"discriminator_warmup": 0}, "reward": {"first": "none"}})
    generator, side = np.random.default_rng(0), 2 * args.crop
    arrays = [generator.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(2)]
    images = FolderSet.from_arrays(["0", "1"], arrays)
    scorer = make_scorer(lambda scored: scored.mean(dim=(1, 2, 3)), images, images)
    trainer = Trainer(config, Domains(images, images), scorer, pick_device("cpu"))
    return _measured(trainer.iterate, args.steps)


def derainer(args: argparse.Namespace, name: str, checkpoint: str) -> dict[str, float]:
    """Forward and backward passes of the derainer alone."""
    config = load_config({"preset": args.preset, "network": {"derainer": name, "checkpoint": checkpoint}})
    network = build_networks(config, torch.device("cpu")).derainer.train()
    image = torch.rand(args.batch, 3, args.crop, args.crop)
    return _measured(lambda: network(image).abs().mean().backward(), args.steps)


def _measured(step: Callable[[], object], steps: int) -> dict[str, float]:
    before = _peak()
    seconds = 0.0
    for _ in range(steps):
        began = time.process_time()
        step()
        seconds = time.process_time() - began
    return {"gib": _peak() - before, "seconds": seconds}


def _peak() -> float:
    """Peak resident memory so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
