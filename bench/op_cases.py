"""What the benchmarks of every op share: one case is forward + backward of a provider on one shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from limits import DEVICE
from torch import Tensor

from rgsud_fast.ops import _backends as backends
from rgsud_fast.ops import use_backend


def providers(op: str, public: Callable, plain: dict[str, Callable]) -> list:
    """Parameters (name, function, backend): every form of plain PyTorch, and every kernel that runs fast here."""
    cases = [pytest.param(name, function, "auto", id=name) for name, function in plain.items()]
    for backend in backends.KERNELS[op].get(DEVICE, ()):
        interpreted = backend == "triton" and DEVICE == "cpu"
        if not interpreted and not backends.why_not(op, backend, DEVICE):
            cases.append(pytest.param(backend, public, backend, id=backend))
    return cases


def random(*shape: int) -> Tensor:
    """Normal noise that wants a gradient."""
    return torch.randn(shape, device=DEVICE, requires_grad=True)


def last(x: Tensor) -> Tensor:
    """The same image with its channels last in memory, which plain PyTorch may prefer."""
    return x.contiguous(memory_format=torch.channels_last)


def measure(
    benchmark, provider: tuple[str, Callable, str], inputs: Sequence[Tensor], moved: int, work: int = 0
) -> None:
    """Time forward + backward, warmed up and synchronised.

    Args:
        benchmark: the fixture of pytest-benchmark.
        provider: name, function and backend.
        inputs: arguments of the function; those that require a gradient get one.
        moved: bytes that forward + backward must read and write at least.
        work: floating-point operations of forward + backward, where these and not memory are the limit.
    """
    name, function, backend = provider
    wanted = [tensor for tensor in inputs if tensor.requires_grad]

    def step() -> None:
        out = function(*inputs)
        torch.autograd.grad(out, wanted, torch.ones_like(out))
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    benchmark.extra_info.update(
        case=f"{benchmark.name.partition('[')[0]} {list(inputs[0].shape)} forward + backward",
        provider=name,
        bytes=moved,
        flops=work,
        dtype=str(inputs[0].dtype).removeprefix("torch."),
    )
    with use_backend(backend):
        benchmark.pedantic(step, rounds=50, iterations=1, warmup_rounds=10)
