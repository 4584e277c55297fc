"""The ops in somebody else's network: python examples/ops_elsewhere.py [ITERATIONS]."""

import sys
import time

import torch
from torch import Tensor, nn

from rgsud_fast.data import load_demo, to_tensor
from rgsud_fast.ops import conv_bias_lrelu, ssim


class ConvLeakyReLU(nn.Module):
    """A convolution and its activation in one pass, with the weights of the layers it replaces."""

    def __init__(self, conv: nn.Conv2d, activation: nn.LeakyReLU) -> None:
        super().__init__()
        self.weight, self.bias, self.slope = conv.weight, conv.bias, activation.negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return conv_bias_lrelu(x, self.weight, self.bias, self.slope)


def main(iterations: int = 20) -> None:
    a, b, c = (nn.Conv2d(*channels, 3, padding=1) for channels in ((3, 16), (16, 16), (16, 3)))
    plain = nn.Sequential(a, nn.LeakyReLU(0.2), b, nn.LeakyReLU(0.2), c)
    fused = nn.Sequential(ConvLeakyReLU(*plain[0:2]), ConvLeakyReLU(*plain[2:4]), c)  # the same weights
    clean = to_tensor(load_demo().clean[0])[None, :, :128, :128]
    noisy = clean + 0.1 * torch.randn_like(clean)
    print(f"largest difference: {(fused(noisy) - plain(noisy)).abs().max():.1e}")
    for name, network in (("plain", plain), ("fused", fused)):
        start = time.perf_counter()
        for _ in range(iterations):
            (1 - ssim(network(noisy), clean)).backward()  # a kernel has a gradient, so it is a loss like any other
        print(f"{name}: {(time.perf_counter() - start) / iterations * 1e3:.1f} ms, forward and backward")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
