"""The configuration of a run: every number of the method, typed, without torch."""

from .config import Config
from .load import load_config, save_config
from .sections import DataConfig, LossConfig, NetworkConfig, OptimConfig, RewardConfig

__all__ = [
    "Config",
    "DataConfig",
    "LossConfig",
    "NetworkConfig",
    "OptimConfig",
    "RewardConfig",
    "load_config",
    "save_config",
]
