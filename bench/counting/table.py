"""The counts as a page: steps beside eager PyTorch, kernels with their machine code, both beside the goals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from .fake_gpu import SHARED_KIB
from .limits import Limit
from .machine_code import Code
from .step import Trace

GB, GIB = 1e9, 2**30
BANDWIDTH = 4.8e12  # bytes a second, of an H200


def figures_of(native: Trace, eager: Trace) -> dict[str, float]:
    """What `limits.STEP` bounds."""
    return {
        "launches": native.record.launches(),
        "outside": native.record.moved(False) / eager.record.moved(False),
        "mixes": len(native.record.mixes),
        "waits": len(native.record.waits),
        "compilations": len(native.kernels),
    }


def figures_beside(trace: Trace) -> dict[str, float]:
    """What `limits.BESIDE` bounds."""
    return {"beside": trace.record.launches(), "waits beside": len(trace.record.waits)}


def figures_of_code(codes: Iterable[Code]) -> dict[str, float]:
    """What `limits.CODE` bounds."""
    codes = list(codes)
    return {
        "shared": sum(code.shared > SHARED_KIB[code.architecture] * 1024 for code in codes),
        "spills": sum(bool(code.spills) for code in codes),
        "calls": sum(bool(code.calls_in_loops) for code in codes),
        "scalar": sum(code.dots and not code.products for code in codes),
        "per tile": max((code.per_tile or 0 for code in codes), default=0),
    }


def over(figures: Mapping[str, float], limits: Mapping[str, Limit]) -> list[str]:
    """What passes its limit, in words."""
    return [
        f"{name} {figures[name]:g}: more than {limit.now:g} {limit.unit}".rstrip()
        for name, limit in limits.items()
        if figures[name] > limit.now
    ]


def steps(traces: Mapping[int, tuple[Trace, Trace]]) -> list[str]:
    """A table of both stages."""
    lines = [
        "| stage | | launches (PyTorch + Triton + CUDA) | GB outside convolutions | at 4.8 TB/s, ms | GB in them |"
        " mixed layouts | waits | GiB at once |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for stage, pair in traces.items():
        for who, record in zip(("this package", "eager PyTorch"), (trace.record for trace in pair), strict=True):
            kinds = " + ".join(f"{record.launches(kind):,}" for kind in ("aten", "triton", "cuda"))
            outside = record.moved(False)
            cells = [
                stage, who, f"{record.launches():,} ({kinds})", f"{outside / GB:.1f}",
                f"{outside / BANDWIDTH * 1e3:.1f}", f"{record.moved(True) / GB:.1f}", len(record.mixes),
                len(record.waits), f"{record.peak / GIB:.1f}",
            ]  # fmt: skip
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def goals(figures: Mapping[str, float], limits: Mapping[str, Limit]) -> list[str]:
    """A table of figures beside the goals."""
    lines = ["| figure | counted | goal | limit of the tests |", "|---|---|---|---|"]
    for name, limit in limits.items():
        what = f"{name}: {limit.unit}" if limit.unit else name
        lines.append(f"| {what} | {figures[name]:,.4g} | {limit.goal:,.4g} | {limit.now:,.4g} |")
    return lines


def largest(trace: Trace, count: int = 20) -> list[str]:
    """A table of what moves most."""
    moved, launches = Counter[str](), Counter[str]()
    for call in trace.record.calls:
        moved[call.name] += call.moved
        launches[call.name] += call.launches
    lines = ["| what | launches | GB |", "|---|---|---|"]
    return lines + [f"| `{name}` | {launches[name]:,} | {size / GB:.2f} |" for name, size in moved.most_common(count)]


def kernels(codes: Sequence[Code], launches: Mapping[tuple[int, str], int]) -> list[str]:
    """A table of the compiled kernels, an architecture in each column where they differ."""
    lines = [
        "| kernel | launches | sm | shared KiB | registers | spills | calls in loops | per 64³ tile | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for code in codes:
        tile = f"{code.per_tile:.0f}" if code.per_tile else ""
        cells = [
            f"`{code.name}`", launches.get((code.architecture, code.name), ""), code.architecture,
            f"{code.shared / 1024:.0f}", code.registers, code.spills or "", code.calls_in_loops or "", tile,
            "; ".join(code.faults),
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines
