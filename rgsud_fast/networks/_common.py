"""What several networks share: the slope of LeakyReLU, GAN initialisation, padding to a multiple."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2  # of every LeakyReLU in the generator, the U-Net and the discriminator (CSUD, CVPR 2025)


def init_normal(network: nn.Module) -> None:
    """Draw convolution weights from N(0, 0.02) and set biases to 0, as in CycleGAN's family."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def lrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad right and bottom with zeros until height and width are multiples. [N, C, H, W]."""
    height, width = image.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    return F.pad(image, (0, right, 0, bottom)) if bottom or right else image


def parameters_of(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def check_image(image: Tensor, channels: int = 3, name: str = "image") -> None:
    """Refuse what is not a batch of float images, naming what was got."""
    if image.ndim != 4 or image.shape[1] != channels or not torch.is_floating_point(image):
        got = f"{list(image.shape)} {image.dtype}"
        raise ValueError(f"{name} must be [N, {channels}, H, W] of a floating type, got {got}")
