"""A whole run, from its configuration to weights, metrics and a gallery."""

from .train import Result, train

__all__ = ["Result", "train"]
