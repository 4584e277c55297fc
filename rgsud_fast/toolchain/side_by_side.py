"""The same work on two parts of a batch at once: small networks on small patches leave most of two cores idle."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..system.threads import usable_cpus

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item], device: torch.device) -> list[Result]:
    """Do work on each item, every other one on a second thread where there is a CPU for it: the same results anyhow.

    Args:
        work: on one item, by which alone its result is decided.
        items: in the order of the results.
        device: where it is done; on a GPU one after another.
    """
    if device.type != "cpu" or len(items) < 2 or usable_cpus() < 2:
        return [work(item) for item in items]
    gradients = torch.is_grad_enabled()  # which each thread knows for itself

    def others() -> list[Result]:
        with torch.set_grad_enabled(gradients):
            return [work(item) for item in items[1::2]]

    later = _second(torch.get_num_threads()).submit(others)
    found: list[Any] = [None] * len(items)
    found[::2] = [work(item) for item in items[::2]]
    found[1::2] = later.result()
    return found


def in_halves(work: Callable[..., Result], *tensors: Tensor) -> list[Result]:
    """Do work on both halves of a batch, side by side; on a GPU on the whole of it.

    Args:
        work: called with a half of each tensor.
        tensors: [N, ...] each, on one device.

    Returns:
        What came of the halves, which do not depend on how many cores there are.
    """
    device = tensors[0].device
    halves = [*zip(*(tensor.chunk(2) for tensor in tensors), strict=True)] if device.type == "cpu" else [tensors]
    return side_by_side(lambda half: work(*half), halves, device)


def learn_from(loss_of: Callable[..., Tensor], parameters: Sequence[nn.Parameter], *tensors: Tensor) -> Tensor:
    """The gradient of a sum over a batch, in `parameters`; the sum is returned.

    Args:
        loss_of: the sum over a part of the batch, differentiable.
        parameters: those that learn; what they held of gradients is replaced, None where nothing depends on one.
        tensors: of the batch, [N, ...] each.
    """

    def one(*half: Tensor) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        loss = loss_of(*half)
        if not loss.requires_grad:
            return loss, (None,) * len(parameters)
        return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

    losses, gradients = zip(*in_halves(one, *tensors), strict=True)
    for parameter, parts in zip(parameters, zip(*gradients, strict=True), strict=True):
        known = [part for part in parts if part is not None]
        parameter.grad = sum(known[1:], known[0]) if known else None
    return sum(losses[1:], losses[0])


@contextlib.contextmanager
def sharing_cores(device: torch.device) -> Iterator[None]:
    """Half of PyTorch's threads for each of the two, where networks are on the CPU."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(max(min(before, usable_cpus()) // 2, 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def _second(threads: int) -> ThreadPoolExecutor:
    """The other thread; it computes with so many of PyTorch's."""
    return ThreadPoolExecutor(1, "second half", lambda: torch.set_num_threads(threads))
