"""Benchmarks as a table: time, rate, share of the limit that binds, and speed beside the fastest plain PyTorch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple


class Row(NamedTuple):
    """One provider on one case."""

    case: str
    provider: str
    seconds: float
    rate: str  # with its unit
    share: float  # of the limit that binds
    peak: int | None  # bytes of the GPU's memory, None on the CPU
    ratio: float | None  # the fastest plain PyTorch's time over this one's, in the same rounds where it is a kernel's


def rows(benchmarks: Iterable[dict], limits: dict[str, float]) -> list[Row]:
    """Make the table's rows, the fastest provider of each case first.

    Args:
        benchmarks: `extra_info` of each, with its `seconds`.
        limits: as `limits.measured` gives them.
    """
    cases = defaultdict(list)
    for bench in benchmarks:
        if "provider" in bench:
            cases[bench["case"]].append(bench)
    table = []
    for case, found in cases.items():
        plain = min((b["seconds"] for b in found if b["provider"].startswith("plain")), default=None)
        for bench in sorted(found, key=lambda b: b["seconds"]):
            seconds = bench["seconds"]
            if bench.get("flops"):
                rate, share = (
                    f"{bench['flops'] / seconds / 1e9:.0f} GFLOP/s",
                    bench["flops"] / seconds / limits[bench["dtype"]],
                )
            else:
                rate, share = f"{bench['bytes'] / seconds / 1e9:.1f} GB/s", bench["bytes"] / seconds / limits["copy"]
            against = bench.get("ratios") or ({"plain": plain / seconds} if plain else {})
            ratio = min(against.values(), default=None)
            table.append(Row(case, bench["provider"], seconds, rate, share, bench.get("peak_bytes"), ratio))
    return table


def markdown(table: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| case | provider | ms | rate | of the limit | peak MiB | speed |", "|---|---|---|---|---|---|---|"]
    for row in table:
        ratio = f"{row.ratio:.2f}x" if row.ratio else ""
        peak = "" if row.peak is None else f"{row.peak / 2**20:.0f}"
        cells = [row.case, row.provider, f"{row.seconds * 1e3:.3f}", row.rate, f"{row.share:.0%}", peak, ratio]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
