"""Benchmarks of the ops: every backend that runs here beside plain PyTorch; at the end, ratios and shares.

Run as `pytest bench/ --benchmark-only`. RGSUD_THREADS sets the CPU threads, 2 unless given.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict

import torch
from op_cases import DEVICE

torch.set_num_threads(int(os.environ.get("RGSUD_THREADS", "2")))


def pytest_terminal_summary(terminalreporter, config) -> None:
    """One line per case and provider: best time, GB/s, and how many times the fastest plain PyTorch's speed.

    The best and not the median: where other work shares the cores, waiting for a second thread is most of the median.
    """
    session = getattr(config, "_benchmarksession", None)
    cases = defaultdict(dict)
    for bench in session.benchmarks if session else []:
        if "provider" in bench.extra_info and not bench.has_error and bench.stats:
            info = bench.extra_info
            cases[info["case"]][info["provider"]] = (bench.stats.min, info["bytes"], info.get("flops", 0))
    limit, product = (_copy_rate(), _product_rate()) if cases else (0.0, 0.0)
    if cases:
        terminalreporter.write_line(
            f"limits, 100 %: a copy in memory, {limit / 1e9:.2f} GB/s (what fits the cache may pass it); a float32 "
            f"matrix product, {product / 1e9:.0f} GFLOP/s"
        )
    for case, providers in cases.items():
        terminalreporter.write_line(f"{case} ({DEVICE}, {torch.get_num_threads()} threads)")
        plain = min((spent for name, (spent, *_) in providers.items() if name.startswith("plain")), default=None)
        for name, (spent, moved, work) in sorted(providers.items(), key=lambda item: item[1][0]):
            ratio = f"{plain / spent:6.2f}x" if plain else ""
            rate = f"{moved / spent / 1e9:8.2f} GB/s {moved / spent / limit:5.0%}"
            if work:
                rate = f"{work / spent / 1e9:8.1f} GFLOP/s {work / spent / product:5.0%}"
            terminalreporter.write_line(f"  {name:20s} {spent * 1e3:9.3f} ms {rate} {ratio}")


def _copy_rate() -> float:
    # Bytes per second, read and written, of the best of ten copies that fit no cache.
    source = torch.zeros(64 << 20, device=DEVICE)
    target, best = torch.empty_like(source), float("inf")
    for _ in range(10):
        start = time.perf_counter()
        target.copy_(source)
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * source.nbytes / best


def _product_rate() -> float:
    # Floating-point operations per second of the best of ten matrix products in float32.
    size, best = 1024 if DEVICE == "cpu" else 8192, float("inf")
    a = torch.ones(size, size, device=DEVICE)
    for _ in range(10):
        start = time.perf_counter()
        a @ a
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
