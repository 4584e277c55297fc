"""The ops: each one public function that checks its arguments and runs the fastest implementation there is."""

from . import _library  # noqa: F401 - enters the ops for torch.compile
from ._backends import use_backend
from ._naf_weights import NafWeights
from .clip_preprocess import clip_preprocess
from .conv_bias_lrelu import conv_bias_lrelu
from .convolve import convolve
from .derain_loss import derain_loss
from .gated_dconv import gated_dconv
from .high_pass import high_pass, with_high_pass
from .instance_norm_lrelu import instance_norm_lrelu
from .layernorm2d import layernorm2d
from .nafblock import nafblock
from .nss_features import nss_features
from .pixel_shuffle_skip import pixel_shuffle_skip
from .pool_update import pool_update
from .rain_residual import rain_residual
from .residual_block import residual_block
from .reward_candidate import RemovedLayer, removed_layer, reward_candidate
from .ssim import ssim
from .take_crops import take_crops

__all__ = [
    "NafWeights",
    "RemovedLayer",
    "clip_preprocess",
    "conv_bias_lrelu",
    "convolve",
    "derain_loss",
    "gated_dconv",
    "high_pass",
    "instance_norm_lrelu",
    "layernorm2d",
    "nafblock",
    "nss_features",
    "pixel_shuffle_skip",
    "pool_update",
    "rain_residual",
    "removed_layer",
    "residual_block",
    "reward_candidate",
    "ssim",
    "take_crops",
    "use_backend",
    "with_high_pass",
]
