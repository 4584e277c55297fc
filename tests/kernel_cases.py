"""Cases for the tests of every op: the kernels to run, and the comparison with the float64 reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from rgsud_fast.ops import _backends as backends
from rgsud_fast.ops import use_backend


def each_kernel(op: str) -> pytest.MarkDecorator:
    """Parametrise a test over (device, backend) for every kernel of an op that some machine has."""
    cases = [
        pytest.param(device, backend, id=f"{backend}-{device}", marks=_marks(op, device, backend))
        for device, names in backends.KERNELS[op].items()
        for backend in names
    ]
    return pytest.mark.parametrize("device, backend", cases)


def _marks(op: str, device: str, backend: str) -> list[pytest.MarkDecorator]:
    if device == "cuda":
        return [pytest.mark.cuda]
    # Where a GPU is, Triton is not interpreted, and its kernels run there.
    reason = backends.why_not(op, backend, device) if backend == "triton" else None
    return [pytest.mark.skip(reason=reason)] if reason else []


def run(op: Callable, backend: str, inputs: Sequence[Tensor], v_out: Tensor | None = None) -> list[Tensor]:
    """The op's value, then its gradient at each input that wants one."""
    with use_backend(backend):
        out = op(*inputs)
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    v_out = torch.ones_like(out) if v_out is None else v_out.to(out)
    return [out.detach(), *torch.autograd.grad(out, wanted, v_out)]


def assert_matches(op: Callable, backend: str, inputs: Sequence[Tensor], tolerance: float) -> None:
    """Compare value and gradients with the float64 reference, relative to each one's largest element."""
    wide = [tensor.detach().double().requires_grad_(tensor.requires_grad) for tensor in inputs]
    shape = op(*wide).shape
    v_out = torch.randn(shape, dtype=inputs[0].dtype, device=inputs[0].device)
    for got, wanted in zip(run(op, backend, inputs, v_out), run(op, "reference", wide, v_out), strict=True):
        assert got.shape == wanted.shape
        scale = wanted.abs().max().clamp_min(1e-30)
        assert ((got.double() - wanted).abs().max() / scale).item() <= tolerance


def assert_same_bits(op: Callable, backend: str, inputs: Sequence[Tensor]) -> None:
    """Run three times and compare every bit of value and gradients."""
    first = run(op, backend, inputs)
    for _ in range(2):
        for one, other in zip(first, run(op, backend, inputs), strict=True):
            assert torch.equal(one, other)


def assert_backward_twice(op: Callable, backend: str, inputs: Sequence[Tensor]) -> None:
    """A second backward over the same graph gives the same gradients: nothing saved was written into."""
    with use_backend(backend):
        out = op(*inputs).square().sum()
    once = torch.autograd.grad(out, inputs, retain_graph=True)
    again = torch.autograd.grad(out, inputs)
    assert all(torch.equal(one, other) for one, other in zip(once, again, strict=True))


def convolution_arguments(
    channels: tuple[int, int],
    taps: int,
    size: tuple[int, int],
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:
    """Two images, weights and bias of a convolution of channels (in, out)."""
    shapes = (2, channels[0], *size), (channels[1], channels[0], taps, taps), channels[1:]
    return [torch.randn(shape, dtype=torch.float64).to(device, dtype).requires_grad_() for shape in shapes]
