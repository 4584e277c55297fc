"""The configuration of a run: every number of the method, typed, without torch."""

from .config import Config, DataConfig, LossConfig, NetworkConfig, OptimConfig, RewardConfig, load_config, save_config

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
