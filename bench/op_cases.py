"""Cases for the benchmarks of every op: forward + backward of a provider on one shape."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import pytest
import torch
from limits import DEVICE
from torch import Tensor

from rgsud_fast.ops import _backends as backends
from rgsud_fast.ops import use_backend

# Whether torch.compile of the reference is measured: always on the GPU; on the CPU it takes a minute per operation.
COMPILE = DEVICE == "cuda" or os.environ.get("RGSUD_COMPILE") == "1"


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


def measure(benchmark, provider: Provider, inputs: Sequence[Tensor], moved: int, work: int = 0) -> None:
    """Time forward + backward.

    Args:
        benchmark: the fixture of pytest-benchmark.
        provider: what to time.
        inputs: arguments of the function; those that require a gradient get one.
        moved: bytes that forward + backward must read and write at least.
        work: floating-point operations of forward + backward, where these and not memory are the limit.
    """
    wanted = [tensor for tensor in inputs if tensor.requires_grad]

    def step(function: Callable) -> None:
        out = function(*inputs)
        torch.autograd.grad(out, wanted, torch.ones_like(out))

    benchmark.extra_info.update(
        case=f"{benchmark.name.partition('[')[0]} {list(inputs[0].shape)} forward + backward",
        bytes=moved,
        flops=work,
        dtype=str(inputs[0].dtype).removeprefix("torch."),
    )
    race(benchmark, provider, step, rounds=50, warm_up=10)


def race(benchmark, provider: Provider, step: Callable[[Callable], None], rounds: int, warm_up: int) -> None:
    """Time step(function), warmed up and synchronised, and in every round its rivals as well.

    The speed beside a rival is the median over the rounds of the ratio of both times: what else the machine does in the
    meantime slows both.
    """
    times: dict[str, list[float]] = {name: [] for name in provider.rivals}

    def run(function: Callable) -> None:
        step(function)
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    def rivals() -> None:
        for name, function in provider.rivals.items():
            with use_backend("reference"):
                began = time.perf_counter()
                run(function)
                times[name].append(time.perf_counter() - began)

    with use_backend(provider.backend):
        benchmark.pedantic(
            run, args=(provider.function,), setup=rivals, rounds=rounds, iterations=1, warmup_rounds=warm_up
        )
        peak = peak_of(lambda: run(provider.function))
    mine = benchmark.stats.stats.data
    ratios = {
        name: median(a / b for a, b in zip(found[-len(mine) :], mine, strict=True)) for name, found in times.items()
    }
    benchmark.extra_info.update(provider=provider.name, ratios=ratios, peak_bytes=peak)


def peak_of(run: Callable[[], None]) -> int | None:
    """Bytes of the GPU's memory that a run takes beyond what was taken before; None on the CPU."""
    if DEVICE == "cpu":
        return None
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() - before
