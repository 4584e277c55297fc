"""Benchmarks of the ops: every backend that runs here beside plain PyTorch; at the end, ratios and GB/s.

Run as `pytest bench/ --benchmark-only`. RGSUD_THREADS sets the CPU threads, 2 unless given.
"""

from __future__ import annotations

import os
from collections import defaultdict

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
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
            cases[info["case"]][info["provider"]] = (bench.stats.min, info["bytes"])
    for case, providers in cases.items():
        terminalreporter.write_line(f"{case} ({DEVICE}, {torch.get_num_threads()} threads)")
        plain = min((time for name, (time, _) in providers.items() if name.startswith("plain")), default=None)
        for name, (time, moved) in sorted(providers.items(), key=lambda item: item[1][0]):
            ratio = f"{plain / time:6.2f}x" if plain else ""
            terminalreporter.write_line(f"  {name:14s} {time * 1e3:9.3f} ms {moved / time / 1e9:8.2f} GB/s {ratio}")
