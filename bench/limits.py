"""What the machine can do at most, measured in the same process as the benchmarks: a copy, and a matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def copy_rate(device: str) -> float:
    """Bytes per second, read and written, of a copy that fits no cache."""
    source = torch.zeros(64 << 20, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best(lambda: target.copy_(source), device)


def product_rate(device: str, dtype: torch.dtype = torch.float32) -> float:
    """Floating-point operations per second of a square matrix product."""
    size = 1024 if device == "cpu" else 8192
    a = torch.ones(size, size, device=device, dtype=dtype)
    return 2 * size**3 / _best(lambda: a @ a, device)


def _best(run: Callable[[], object], device: str) -> float:
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best
