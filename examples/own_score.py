"""Train with a score of your own, in place of the fitted one: python examples/own_score.py [ITERATIONS]."""

import sys

import torch
from torch import Tensor

import rgsud_fast
from rgsud_fast.data import load_demo
from rgsud_fast.iqa import CallableScorer, validity


def few_streaks(images: Tensor) -> Tensor:
    """Minus the light of thin upright lines: [N, 3, H, W] in [0, 1] -> [N], higher is better.

    A line counts where a pixel is brighter than both pixels four columns away. A smoothed image would score best, which
    is why the score decides only among what the derainer made, and the run holds a metric out to see it gamed.
    """
    grey = images.mean(dim=1)  # rain is grey, so one channel tells all of it
    beside = torch.maximum(grey[..., :-8], grey[..., 8:])
    return -(grey[..., 4:-4] - beside).clamp(min=0).mean(dim=(1, 2))


def main(iterations: int = 1150) -> None:
    # First ask whether the score knows rain at all: in how many pairs it prefers the clean image.
    share = validity(CallableScorer(few_streaks), load_demo().val)
    print(f"the score prefers the clean image in {share:.0%} of the validation pairs")
    config = {"preset": "demo", "stage1_iterations": iterations, "stage2_iterations": iterations // 4}
    result = rgsud_fast.train(config, scorer=few_streaks)
    print(f"{result.run_dir / 'gallery.html'} shows what the derainer learned")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
