"""The convergence of training with the kernels beside training with the reference.

200 iterations of preset small-gan on the embedded photographs, same seed: once with the kernels, three times with the
reference from initial weights that differ by 1e-7. GAN training is chaotic, so the three spread. The kernels' run must
end, in loss and validation PSNR, within their range widened by its own width on both sides. And in a short run without
the discriminator's warm-up the kernels' loss must stay as close to the reference's as those of the noisy runs do.

    python bench/studies/convergence.py [--steps 200]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from rgsud_fast.config import Config
from rgsud_fast.data import load_domains
from rgsud_fast.iqa import make_scorer
from rgsud_fast.ops import use_backend
from rgsud_fast.system.device import pick_device
from rgsud_fast.training.trainer import Trainer
from rgsud_fast.training.validation import validate

FIRST, LAST = 10, 50  # iterations of the short run, and of the end of the long one that are looked at
NOISE = 1e-7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    references = [run(steps, "reference", noise) for noise in (1, 2, 3)]
    losses, psnr = run(steps, "auto", 0)
    plain = run(FIRST, "reference", 0, warm_up=0)[0]
    mine, *theirs = (
        max(abs(a - b) for a, b in zip(plain, run(FIRST, backend, noise, warm_up=0)[0], strict=True))
        for backend, noise in (("auto", 0), ("reference", 1), ("reference", 2), ("reference", 3))
    )
    failed = mine > max(theirs)
    print(f"loss of {FIRST} iterations: kernels apart by {mine:.3f}, noise by {max(theirs):.3f} {verdict(not failed)}")
    ends = {
        f"loss of the last {LAST} iterations": (mean(losses[-LAST:]), [mean(found[-LAST:]) for found, _ in references]),
        "validation PSNR-RGB, dB": (psnr, [found for _, found in references]),
    }
    for name, (value, found) in ends.items():
        spread = max(found) - min(found)
        inside = min(found) - spread <= value <= max(found) + spread
        print(f"{name}: kernels {value:.3f}, reference {min(found):.3f} to {max(found):.3f} {verdict(inside)}")
        failed |= not inside
    sys.exit(int(failed))


def run(steps: int, backend: str, noise: int, warm_up: int | None = None) -> tuple[list[float], float]:
    """Train; returns the loss of every iteration and the PSNR. `noise` seeds that of the first weights; 0: none."""
    optim = {} if warm_up is None else {"discriminator_warmup": warm_up}
    config = Config(preset="small-gan", data={"demo": True}, optim=optim, reward={"sweep_every": 10**6})
    device = pick_device(config.device)
    with tempfile.TemporaryDirectory() as cache:
        domains = load_domains(config.data, Path(cache), print)
    scorer = make_scorer(lambda images: images.mean(dim=(1, 2, 3)), domains.rainy, domains.clean)
    trainer = Trainer(config, domains, scorer, device)
    generator = torch.Generator().manual_seed(noise)
    for parameter in [parameter for net in trainer.nets for parameter in net.parameters()] if noise else []:
        parameter.data.add_(NOISE * torch.randn(parameter.shape, generator=generator).to(device))
    with use_backend(backend):
        losses = [trainer.iterate().loss.detach() for _ in range(steps)]
    return torch.stack(losses).tolist(), validate(trainer.derainer, domains.val, device)["psnr_rgb"]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def verdict(right: bool) -> str:
    return "(ok)" if right else "(OUTSIDE)"


if __name__ == "__main__":
    main()
