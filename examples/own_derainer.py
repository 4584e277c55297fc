"""Train a derainer of your own in place of NAFNet: python examples/own_derainer.py [ITERATIONS]."""

import sys

from torch import Tensor, nn

import rgsud_fast
from rgsud_fast.data import load_demo


class SmallDerainer(nn.Module):
    """Any module that keeps the shape will do; this one predicts what to take away from the rainy image."""

    def __init__(self, width: int = 16, depth: int = 4) -> None:
        super().__init__()
        hidden = [layer for _ in range(depth) for layer in (nn.Conv2d(width, width, 3, padding=1), nn.ReLU())]
        self.layers = nn.Sequential(nn.Conv2d(3, width, 5, padding=2), nn.ReLU(), *hidden, nn.Conv2d(width, 3, 1))

    def forward(self, rainy: Tensor) -> Tensor:
        """[N, 3, H, W], about [0, 1] -> the same. Nothing is clamped in training, so neither here."""
        return rainy - self.layers(rainy)


def main(iterations: int = 1150) -> None:
    network = SmallDerainer()
    config = {"preset": "demo", "stage1_iterations": iterations, "stage2_iterations": iterations // 4}
    result = rgsud_fast.train(config, derainer=network)  # the network is trained in place
    print({name: value for name, value in result.metrics.items() if isinstance(value, float)})

    # In a later session: build the network yourself, since a weights file can run no code, and fill it.
    again = rgsud_fast.weights.load_state(result.weights, SmallDerainer())
    pair = load_demo().val[0]
    derained = rgsud_fast.derain(again, pair.rainy)  # [3, H, W] in [0, 1]; paths and folders work too, in tiles
    print(f"{pair.name}: {tuple(derained.shape)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
