"""Limits of what is counted: none may be passed, and each is lowered as the kernels come nearer to its goal."""

from __future__ import annotations

from typing import NamedTuple


class Limit(NamedTuple):
    """What a figure may be at most."""

    now: float
    goal: float
    unit: str = ""


STEP = {  # of either stage
    "launches": Limit(1_490, 1_500),
    "outside": Limit(0.246, 1 / 3, "of eager's bytes outside convolutions and products"),
    "mixes": Limit(0, 0, "calls that mix layouts above 1 MB"),
    "waits": Limit(0, 0, "waits for the device"),
    "compilations": Limit(70, 75, "of Triton's kernels, before the first step is done"),
}
BESIDE = {  # of an iteration whose step is a CUDA graph
    "beside": Limit(39, 40, "launches through Python, the graph's own among them"),
    "waits beside": Limit(0, 0, "waits for the device"),
}
CODE = {  # over all kernels and architectures
    "shared": Limit(0, 0, "kernels with more shared memory than a block may have"),
    "spills": Limit(0, 0, "kernels that spill"),
    "calls": Limit(0, 0, "kernels with calls in loops"),
    "scalar": Limit(0, 0, "kernels that multiply without tensor cores"),
    "per tile": Limit(600, 220, "instructions of four warps per 64^3 tile"),
}
