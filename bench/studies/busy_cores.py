"""How CPU threads wait, on free cores and beside four busy processes: ms a step of `small`, and whether bits are equal.

python bench/studies/busy_cores.py [--rounds 3] [--steps 30]    trains on the embedded photographs, in fresh processes
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rgsud_fast.system.threads import WAITING, choose

BUSY = 4  # processes that compute beside
CHOICES = ("runtime", "chosen")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--one", choices=CHOICES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(train(args.one, args.steps)))
        return
    bits = set()
    for busy in (0, BUSY):
        times: dict[str, list[float]] = {choice: [] for choice in CHOICES}
        for _ in range(args.rounds):
            for choice in CHOICES:
                with busy_processes(busy):
                    found = run(choice, args.steps)
                times[choice].append(found["ms"])
                bits.add(found["bits"])
                print(f"{busy} busy processes, {choice:>7}: {found['ms']:8.0f} ms a step   {found['told']}", flush=True)
        for choice, each in times.items():
            print(f"{busy} busy processes, {choice:>7}: median {statistics.median(each):.0f} ms a step")
    print("equal bits" if len(bits) == 1 else f"DIFFERENT BITS: {len(bits)} kinds of weights")


def run(choice: str, steps: int) -> dict:
    """Train in a process whose OpenMP is not loaded yet, with nothing chosen by the caller's environment."""
    environment = {name: value for name, value in os.environ.items() if name not in (*WAITING, "OMP_NUM_THREADS")}
    command = [sys.executable, __file__, "--one", choice, "--steps", str(steps)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def train(choice: str, steps: int) -> dict:
    """The median time of a step after the first five, and a hash of the trained derainer."""
    told = choose() if choice == "chosen" else ""
    import torch

    from rgsud_fast.config import load_config
    from rgsud_fast.data import load_domains
    from rgsud_fast.iqa import CallableScorer
    from rgsud_fast.system.threads import usable_cpus
    from rgsud_fast.training.trainer import Trainer

    config = load_config({"preset": "small", "data": {"demo": True}, "device": "cpu", "log_gradients": False})
    torch.set_num_threads(min(torch.get_num_threads(), usable_cpus()))  # as `train` does
    scorer = CallableScorer(lambda images: -images.mean(dim=(1, 2, 3)))  # fitting a score is not what is measured
    domains = load_domains(config.data, Path(), print)
    trainer, times = Trainer(config, domains, scorer, torch.device("cpu")), []
    for index in range(4):  # rewards enough to paste
        rainy = torch.as_tensor(domains.rainy[index])
        trainer.pool.update([index], (rainy.permute(2, 0, 1)[None] / 255) ** 1.2, torch.zeros(1))
    for _ in range(steps):
        began = time.perf_counter()
        trainer.iterate()
        times.append(1000 * (time.perf_counter() - began))
    digest = hashlib.sha256()
    for value in trainer.derainer.state_dict().values():
        digest.update(value.numpy().tobytes())
    return {"ms": statistics.median(times[5:]), "bits": digest.hexdigest(), "told": told}


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
