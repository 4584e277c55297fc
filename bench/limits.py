"""The limits of the machine: a copy, and a matrix product. And the CPU threads of every measurement."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
THREADS = int(os.environ.get("RGSUD_THREADS", "2"))


def measure_limits() -> dict[str, float]:
    """`copy` in bytes per second; operations per second of a matrix product under the name of each dtype."""
    dtypes = [torch.float32] if DEVICE == "cpu" else [torch.float32, torch.bfloat16]
    products = {str(dtype).removeprefix("torch."): product_rate(dtype) for dtype in dtypes}
    return {"copy": copy_rate()} | products


def copy_rate() -> float:
    """Bytes per second, read and written, of a copy that fits no cache."""
    source = torch.zeros(64 << 20, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best(lambda: target.copy_(source))


def product_rate(dtype: torch.dtype) -> float:
    """Floating-point operations per second of a square matrix product."""
    size = 1024 if DEVICE == "cpu" else 8192
    a = torch.ones(size, size, device=DEVICE, dtype=dtype)
    return 2 * size**3 / _best(lambda: a @ a)


def _best(run: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        run()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best
