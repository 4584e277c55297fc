"""Training with the kernels ends where training with the reference does.

200 iterations of preset small on the embedded photographs, same seed: once with the kernels, and three times
with the reference from initial weights that differ by 1e-7. GAN training is chaotic, so the three spread; the kernels'
run must end within their range, widened by its own width on both sides.

    python bench/convergence.py [--steps 200]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from rgsud_fast.config import Config
from rgsud_fast.data import load_domains
from rgsud_fast.device import pick_device
from rgsud_fast.iqa import make_scorer
from rgsud_fast.ops import use_backend
from rgsud_fast.reports import validate
from rgsud_fast.trainer import Trainer

LAST = 50  # iterations over which a loss term is averaged
NOISE = 1e-7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    references = [end_of(steps, "reference", run) for run in (1, 2, 3)]
    kernels = end_of(steps, "auto", 0)
    failed = []
    for name, value in kernels.items():
        found = [reference[name] for reference in references]
        spread = max(found) - min(found)
        inside = min(found) - spread <= value <= max(found) + spread
        verdict = "ok" if inside else "OUTSIDE"
        print(f"{name:22s} kernels {value:9.4f}  reference {min(found):9.4f} to {max(found):9.4f}  {verdict}")
        if not inside:
            failed.append(name)
    sys.exit(1 if failed else 0)


def end_of(steps: int, backend: str, run: int) -> dict[str, float]:
    """Train; returns the loss terms at the end, averaged, and the validation PSNR. `run` draws the initial noise."""
    config = Config(preset="small", data={"demo": True}, reward={"sweep_every": 10**6})
    device = pick_device(config.device)
    with tempfile.TemporaryDirectory() as cache:
        domains = load_domains(config.data, Path(cache), print)
    scorer = make_scorer(lambda images: images.mean(dim=(1, 2, 3)), domains.rainy, domains.clean)
    trainer = Trainer(config, domains, scorer, device)
    generator = torch.Generator().manual_seed(run)
    if run:
        for net in trainer.nets:
            for parameter in net.parameters():
                noise = NOISE * torch.randn(parameter.shape, generator=generator)
                parameter.data.add_(noise.to(device))
    sums: dict[str, float] = {}
    with use_backend(backend):
        for _ in range(steps):
            terms = trainer.iterate().terms
            if trainer.step > steps - LAST:
                for name, term in terms.items():
                    if not name.startswith("norm_"):
                        sums[name] = sums.get(name, 0.0) + float(term) / LAST
    return sums | {"validation psnr": validate(trainer.derainer, domains.val, device)["psnr_rgb"]}


if __name__ == "__main__":
    main()
