"""The method by hand, without a trainer: python examples/one_step.py [ITERATIONS]."""

import random
import sys

import torch

from rgsud_fast.config import load_config
from rgsud_fast.data import load_demo, to_tensor
from rgsud_fast.methods.build import build_networks
from rgsud_fast.methods.rgsud import discriminator_loss, stage1


def crop(image, side: int) -> torch.Tensor:
    """A random window of a photograph, uint8 [H, W, 3] -> [3, side, side] in [0, 1]."""
    top, left = (random.randint(0, size - side) for size in image.shape[:2])
    return to_tensor(image[top : top + side, left : left + side])


def main(iterations: int = 100) -> None:
    config = load_config({"preset": "small-gan"})  # for its sizes and weights; its warm-up and schedule are left out
    images, nets = load_demo(), build_networks(config, torch.device("cpu"))
    together = [weight for net in (nets.derainer, nets.unet, nets.generator) for weight in net.parameters()]
    optimizer = torch.optim.Adam(together, lr=5e-4)
    opponent = torch.optim.Adam(nets.discriminator.parameters(), lr=1e-3)
    for _ in range(iterations):
        domains = (random.choices(domain, k=config.batch) for domain in (images.rainy, images.clean))  # no pairs
        rainy, clean = (torch.stack([crop(image, config.crop) for image in domain]) for domain in domains)
        step = stage1(nets, rainy, clean, config.loss)
        optimizer.zero_grad()
        step.loss.backward(inputs=together)  # the discriminator judges here, and does not learn from this loss
        optimizer.step()
        opponent.zero_grad()
        discriminator_loss(nets, rainy, step.fakes[: len(rainy)]).backward()  # the first of the four: pseudo rainy
        opponent.step()
        print({name: round(term.item(), 3) for name, term in step.terms.items()})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
