"""The configuration of a run: every number of the method, typed, without torch."""

from .config import Config, merge
from .data_sections import DataConfig
from .load import load_config, save_config
from .presets import PRESETS
from .reward_section import RewardConfig
from .sections import LossConfig, NetworkConfig, OptimConfig

__all__ = [
    "PRESETS",
    "Config",
    "DataConfig",
    "LossConfig",
    "NetworkConfig",
    "OptimConfig",
    "RewardConfig",
    "load_config",
    "merge",
    "save_config",
]
