"""The ops: each one public function that checks its arguments and runs the fastest implementation there is."""

from . import _library  # noqa: F401 - enters the ops for torch.compile
from ._backends import use_backend
from .high_pass import high_pass
from .layernorm2d import layernorm2d
from .ssim import ssim

__all__ = ["high_pass", "layernorm2d", "ssim", "use_backend"]
