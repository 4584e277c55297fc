"""Toolboxes as Python has them: `rgsud_fast.toolbox.train`, `run`, `evaluate`, `add`, `load`."""

from .inference.toolbox import run
from .networks.toolbox import Chain
from .networks.toolbox import load_box as load
from .toolchain.add import add
from .toolchain.evaluate import evaluate
from .toolchain.train import Result, train

__all__ = ["Chain", "Result", "add", "evaluate", "load", "run", "train"]
