"""The four networks of RGSUD. Each carries `sizes`, the keywords that build it again."""

from ._common import checkpoint_blocks, evaluating, init_fan_in, initialize
from .derainers.nafnet import PER_CROP, NAFNet, local_statistics
from .discriminator import Discriminator
from .generator import RainGenerator
from .unet import UNet

__all__ = [
    "PER_CROP",
    "Discriminator",
    "NAFNet",
    "RainGenerator",
    "UNet",
    "checkpoint_blocks",
    "evaluating",
    "init_fan_in",
    "initialize",
    "local_statistics",
]
