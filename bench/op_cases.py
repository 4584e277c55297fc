"""Cases for the benchmarks of every op: forward + backward of a provider on one shape."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import pytest
import torch
from limits import DEVICE, copies_beyond_the_cache, tf32_allowed
from timing import seconds
from torch import Tensor

from rgsud_fast.ops import _backends as backends
from rgsud_fast.ops import use_backend

# Whether torch.compile of the reference is measured: always on the GPU; on the CPU it takes a minute per operation.
COMPILE = DEVICE == "cuda" or os.environ.get("RGSUD_COMPILE") == "1"


# What floating-point inputs are on a GPU: bfloat16, or float32 that products may round to TF32, or IEEE's.
PRECISION = os.environ.get("RGSUD_BENCH_PRECISION", "bfloat16") if DEVICE == "cuda" else "float32"
RESULTS: list[dict] = []  # of this process, as they come; also appended to the file of RGSUD_BENCH_LINES


class Provider(NamedTuple):
    """One implementation of an op."""

    name: str
    function: Callable
    backend: str  # for use_backend
    rivals: dict[str, Callable]  # what a kernel is held against, round by round


def providers(op: str, public: Callable, plain: dict[str, Callable]) -> list:
    """Parameters: every form of plain PyTorch, where COMPILE the first compiled, every kernel that runs fast."""
    found = [Provider(name, function, "auto", {}) for name, function in plain.items()]
    if COMPILE:
        found.append(Provider("compile", torch.compile(next(iter(plain.values())), dynamic=False), "reference", plain))
    for backend in backends.KERNELS[op].get(DEVICE, ()):
        interpreted = backend == "triton" and DEVICE == "cpu"
        if not interpreted and not backends.why_not(op, backend, DEVICE):
            found.append(Provider(backend, public, backend, plain))
    return [pytest.param(provider, id=provider.name) for provider in found]


def random(*shape: int) -> Tensor:
    """Normal noise that wants a gradient."""
    return torch.randn(shape, device=DEVICE, requires_grad=True)


def last(x: Tensor) -> Tensor:
    """The same image with its channels last in memory, which plain PyTorch may prefer."""
    return x.contiguous(memory_format=torch.channels_last)


def measure(benchmark, provider: Provider, inputs: Sequence[Tensor], moved: int, work: int = 0, form: str = "") -> None:
    """Time forward + backward.

    Args:
        benchmark: the fixture of pytest-benchmark.
        provider: what to time.
        inputs: arguments of the function; those that require a gradient get one.
        moved: bytes that forward + backward must read and write at least.
        work: floating-point operations of forward + backward, where these and not memory are the limit.
        form: what tells the case from others of its shape.
    """
    dtype = torch.bfloat16 if PRECISION == "bfloat16" else None
    if dtype:
        moved = moved * dtype.itemsize // inputs[0].element_size()
    inputs = [_as(tensor, dtype) for tensor in inputs]
    count = copies_beyond_the_cache(sum(tensor.nbytes for tensor in inputs))
    sets = itertools.cycle([[_as(tensor, dtype) for tensor in inputs] for _ in range(count)])

    def step(function: Callable) -> None:
        given = next(sets)
        out = function(*given)
        torch.autograd.grad(out, [tensor for tensor in given if tensor.requires_grad], torch.ones_like(out))

    benchmark.extra_info.update(
        case=f"{benchmark.name.partition('[')[0]} {form}{list(inputs[0].shape)} {PRECISION} forward + backward",
        bytes=moved,
        flops=work,
        dtype=PRECISION,
    )
    race(benchmark, provider, step, rounds=50, warm_up=10)


def _as(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A copy, in a half precision where one is given."""
    wanted = dtype if dtype and tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(wanted, copy=True).requires_grad_(tensor.requires_grad)


def race(
    benchmark, provider: Provider, step: Callable[[Callable], None], rounds: int, warm_up: int, whole: bool = False
) -> None:
    """Time step(function), warmed up and synchronised; on the CPU in every round its rivals as well.

    There the speed beside a rival is the median over the rounds of the ratio of both times: what else the machine does
    in the meantime slows both. A GPU is alone, and need not hold several at once.

    Args:
        benchmark: the fixture of pytest-benchmark.
        provider: what to time.
        step: calls a function once.
        rounds: measurements.
        warm_up: calls before them.
        whole: a whole iteration of training, which is not put into a graph from outside.
    """
    times: dict[str, list[float]] = {name: [] for name in provider.rivals} if DEVICE == "cpu" else {}

    def run(function: Callable) -> None:
        step(function)

    def rivals() -> None:
        for name in times:
            with use_backend("reference"):
                began = time.perf_counter()
                run(provider.rivals[name])
                times[name].append(time.perf_counter() - began)

    with use_backend(provider.backend), tf32_allowed(PRECISION == "tf32"), contextlib.ExitStack() as stack:
        if DEVICE == "cuda":
            stack.callback(torch.cuda.empty_cache)
            peak = peak_of(lambda: [run(provider.function) for _ in range(warm_up)])
            benchmark.pedantic(run, args=(provider.function,), rounds=1, iterations=1)  # or the fixture complains
            mine = seconds(lambda: run(provider.function), min(rounds, 20), graph=not whole)
        else:
            benchmark.pedantic(
                run, args=(provider.function,), setup=rivals, rounds=rounds, iterations=1, warmup_rounds=warm_up
            )
            peak, mine = None, benchmark.stats.stats.data
    ratios = {
        name: median(a / b for a, b in zip(found[-len(mine) :], mine, strict=True)) for name, found in times.items()
    }
    benchmark.extra_info.update(provider=provider.name, ratios=ratios, peak_bytes=peak)
    keep(dict(benchmark.extra_info) | {"seconds": min(mine)})


def keep(result: dict) -> None:
    """Note a result at once, so that a later case which breaks the process loses nothing."""
    RESULTS.append(result)
    if path := os.environ.get("RGSUD_BENCH_LINES"):
        with open(path, "a", encoding="utf-8") as lines:
            lines.write(json.dumps(result) + "\n")


def peak_of(run: Callable[[], object]) -> int:
    """Bytes of the GPU's memory that a run takes beyond what was taken before, what a graph holds included."""
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_reserved() - before
