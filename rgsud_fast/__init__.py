"""RGSUD: learn to remove rain from photographs without pairs, by recycling the best of its own results.

Everything public is named here and imported when first used: `import rgsud_fast` does no work.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import Config, load_config
    from .distillation.distil import distil
    from .distillation.index import index
    from .inference.derain import derain
    from .inference.evaluate import evaluate
    from .inference.export import export
    from .inference.fit_finpercep import fit_finpercep
    from .inference.publish import publish
    from .inference.rain import rain
    from .inference.render import render_pairs
    from .iqa import score
    from .ops import use_backend
    from .ops.installation import info
    from .training.train import train

_HOMES = {
    "Config": "config",
    "load_config": "config",
    "index": "distillation.index",
    "distil": "distillation.distil",
    "train": "training",
    "derain": "inference.derain",
    "evaluate": "inference.evaluate",
    "rain": "inference.rain",
    "export": "inference.export",
    "fit_finpercep": "inference.fit_finpercep",
    "publish": "inference.publish",
    "render_pairs": "inference.render",
    "score": "iqa",
    "info": "ops.installation",
    "use_backend": "ops",
}

__all__ = [
    "Config",
    "__version__",
    "derain",
    "distil",
    "evaluate",
    "export",
    "fit_finpercep",
    "index",
    "info",
    "load_config",
    "publish",
    "rain",
    "render_pairs",
    "score",
    "train",
    "use_backend",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = importlib.import_module(".version", __name__).version()
    elif name == "weights":
        value = importlib.import_module(".networks.weights", __name__)
    elif name == "toolbox":
        value = importlib.import_module(".toolbox", __name__)
    elif name in _HOMES:
        value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
