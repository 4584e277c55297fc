"""The four networks of RGSUD. Each carries `sizes`, the keywords that build it again."""

from ._common import checkpoint_blocks, evaluating, init_fan_in, initialize
from .derainers.nafnet import NAFNet
from .discriminator import Discriminator
from .generator import RainGenerator
from .unet import UNet
from .windows import PER_CROP, has_windows, local_statistics

__all__ = [
    "PER_CROP",
    "Discriminator",
    "NAFNet",
    "RainGenerator",
    "UNet",
    "checkpoint_blocks",
    "evaluating",
    "has_windows",
    "init_fan_in",
    "initialize",
    "local_statistics",
]
