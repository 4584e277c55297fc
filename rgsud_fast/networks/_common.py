"""Parts of several networks: the slope of LeakyReLU, GAN initialisation, padding to a multiple."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..ops import conv_bias_lrelu, convolve

SLOPE = 0.2  # of every LeakyReLU in the generator, the U-Net and the discriminator (CSUD, CVPR 2025)
GAIN = math.sqrt(2 / (1 + SLOPE**2))  # keeps the variance of a signal through LeakyReLU


def init_normal(network: nn.Module) -> None:
    """Draw convolution weights from N(0, 0.02) and set biases to 0, as in CycleGAN's family."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_fan_in(network: nn.Module) -> None:
    """Draw convolution weights from N(0, gain^2 / fan-in) with LeakyReLU's gain, and set biases to 0 (He et al., 2015).

    The four phases of an upsampling convolution start alike, since random ones paint a grid, and faint beside the
    skip connection; the last convolution, which no activation follows, starts without that gain.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, GAIN / math.sqrt(module.weight[0].numel()))
        elif isinstance(module, nn.ConvTranspose2d):
            phase = torch.randn_like(module.weight[:, :, :1, :1]) * (0.1 * GAIN / math.sqrt(module.in_channels))
            module.weight.data.copy_(phase.expand_as(module.weight))
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    last = getattr(network, "last", None)
    if isinstance(last, nn.Conv2d):
        last.weight.data.div_(GAIN)


def init_xavier(network: nn.Module) -> None:
    """Draw convolution weights from N(0, 0.02^2 * 2 / (fan-in + fan-out)) and set biases to 0, as in CUT's family."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.xavier_normal_(module.weight, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def initialize(networks: Iterable[nn.Module], how: str) -> None:
    """Draw first weights as `network.initialization` says; "normal" leaves those that the networks begin with."""
    draw = {"fan_in": init_fan_in, "xavier": init_xavier}.get(how)
    for network in networks:
        if draw is not None:
            draw(network)


@torch.no_grad()
def start_grey(last: nn.Conv2d) -> None:
    """Make what a last convolution adds to an image faint, grey and free of low frequencies."""
    grey = last.weight[:1] - last.weight[:1].mean(dim=(2, 3), keepdim=True)
    last.weight.copy_(0.1 * grey.expand_as(last.weight))


@torch.no_grad()
def make_faint(last: nn.Conv2d) -> None:
    """Let what a fresh network adds by its last convolution be a tenth, and without a constant."""
    last.weight.mul_(0.1)
    if last.bias is not None:
        last.bias.zero_()


class Conv(nn.Conv2d):
    """A convolution that keeps the size, with zero padding, bias, and LeakyReLU of that slope; 1 is none."""

    if TYPE_CHECKING:  # torch.jit reads the annotations of classes
        bias: nn.Parameter

    def __init__(self, channels_in: int, channels: int, taps: int, slope: float = 1.0) -> None:
        super().__init__(channels_in, channels, taps, padding=taps // 2)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return conv_bias_lrelu(x, self.weight, self.bias, self.slope)


class Down(nn.Conv2d):
    """Any convolution of both axes alike, as `ops.convolve` computes it."""

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.weight, self.bias, self.stride[0], int(self.padding[0]))


class Up(nn.ConvTranspose2d):
    """A transposed convolution without padding, as `ops.convolve` computes it."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return convolve(x, self.weight, self.bias, self.stride[0], transposed=True)


class Checkpointed:
    """A part of a network that can keep its inputs alone for the backward pass, and compute the rest once more."""

    checkpointed = False


class Blocks(nn.Sequential, Checkpointed):
    """Blocks one after another; `checkpointed`, the input of each is kept."""

    def forward(self, x: Tensor) -> Tensor:
        for block in self:
            x = recomputed(block, x) if self.checkpointed and torch.is_grad_enabled() else block(x)
        return x


def recomputed(module: Callable[..., Tensor], *given: Tensor) -> Tensor:
    """What a module or function makes of tensors; its backward pass computes it once more. Nothing may be drawn."""
    made: Tensor = checkpoint(module, *given, use_reentrant=False, preserve_rng_state=False)
    return made


def checkpoint_blocks(network: nn.Module, on: bool = True) -> None:
    """Let every part of a network that can, keep only its inputs for the backward pass."""
    for module in network.modules():
        if isinstance(module, Checkpointed):
            module.checkpointed = on


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad right and bottom with zeros until height and width are multiples. [N, C, H, W].

    Traced it always pads, and rounds up by a division, so that an exporter finds one formula that holds for any size.
    """
    height, width = image.shape[-2:]
    padded = [(side + multiple - 1) // multiple * multiple for side in (height, width)]
    return _pad(image, padded[1] - width, padded[0] - height)


def cut(image: Tensor, height: int, width: int) -> Tensor:
    """Cut right and bottom, the inverse: padding by less than nothing, as no exporter can tell that a slice fits."""
    return _pad(image, width - image.shape[-1], height - image.shape[-2])


def _pad(image: Tensor, across: int, down: int) -> Tensor:
    traced = torch.jit.is_tracing() or torch.compiler.is_compiling() or type(across) is not int
    always = traced or not image.is_cuda  # the CPU's convolutions of the copy keep the bits of earlier runs
    return F.pad(image, (0, across, 0, down)) if always or across or down else image


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Evaluation mode without gradients; afterwards the mode it was in."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield network
    finally:
        network.train(training)


def check_image(image: Tensor, channels: int = 3, name: str = "image") -> None:
    """Refuse what is not a batch of float images, naming what was got."""
    if image.ndim != 4 or image.shape[1] != channels or not torch.is_floating_point(image):
        got = f"{list(image.shape)} {image.dtype}"
        raise ValueError(f"{name} must be [N, {channels}, H, W] of a floating type, got {got}")
