"""Benchmarks of the ops and the step: every backend that runs here beside plain PyTorch; at the end, a table.

Run as `pytest bench/ --benchmark-only`; `python bench/report.py` also writes the figures down. RGSUD_THREADS sets the
CPU threads, 2 unless given.
"""

from __future__ import annotations

import torch
from limits import DEVICE, THREADS, measure_limits
from op_cases import RESULTS
from summary import rows

torch.set_num_threads(THREADS)
torch.backends.cudnn.benchmark = True  # plain PyTorch at its best


def pytest_terminal_summary(terminalreporter, config) -> None:
    """Lines per case. The best time and not the median: on shared cores, waiting is most of the median."""
    benchmarks = RESULTS
    if not benchmarks:
        return
    limits = measure_limits()
    terminalreporter.write_line(
        f"{DEVICE}, {torch.get_num_threads()} threads; 100 %: a copy, {limits['copy'] / 1e9:.2f} GB/s (what fits the "
        f"cache may pass it); a float32 matrix product, {limits['float32'] / 1e9:.0f} GFLOP/s"
    )
    case = None
    for row in rows(benchmarks, limits):
        if row.case != case:
            case = row.case
            terminalreporter.write_line(case)
        ratio = f"{row.ratio:6.2f}x" if row.ratio else ""
        line = f"  {row.provider:20s} {row.seconds * 1e3:9.3f} ms {row.rate:>14s} {row.share:5.0%} {ratio}"
        terminalreporter.write_line(line)
