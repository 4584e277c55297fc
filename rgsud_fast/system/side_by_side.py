"""The same work on two parts of a batch at once: small networks on small patches leave most of two cores idle."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .threads import usable_cpus

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Cores:
    """The second thread, while there is one, and whether it is at work: work within work is done by one thread."""

    second: ThreadPoolExecutor | None = None
    at_work = threading.Lock()


@contextlib.contextmanager
def sharing_cores(device: torch.device, foreign: bool = False) -> Iterator[None]:
    """Let `side_by_side` have a second thread, where networks are on the CPU, and half of PyTorch's threads each.

    With one thread of PyTorch's, as OMP_NUM_THREADS=1 asks for, or one CPU, there is none; nor where networks are
    `foreign`, whose writers may have given them a state of their own.
    """
    before, found = torch.get_num_threads(), _Cores.second
    usable = min(before, usable_cpus())
    shared = device.type == "cpu" and usable > 1 and not foreign
    half = usable // 2 if shared else usable
    torch.set_num_threads(half)
    _Cores.second = ThreadPoolExecutor(1, "second half", lambda: torch.set_num_threads(half)) if shared else None
    try:
        yield
    finally:
        if _Cores.second is not None:
            _Cores.second.shutdown()
        _Cores.second = found
        torch.set_num_threads(before)


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Do work on each item, every other one on a second thread inside `sharing_cores`: the same results anyhow.

    Args:
        work: on one item, by which alone its result is decided.
        items: in the order of the results.
    """
    if _Cores.second is None or len(items) < 2 or not _Cores.at_work.acquire(blocking=False):
        return [work(item) for item in items]
    try:
        return _both(_Cores.second, work, items)
    finally:
        _Cores.at_work.release()


def _both(second: ThreadPoolExecutor, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    gradients, stop = torch.is_grad_enabled(), threading.Event()  # each thread knows of gradients for itself

    def others() -> list[Result]:
        with torch.set_grad_enabled(gradients):
            return [work(item) for item in items[1::2] if not stop.is_set()]

    later = second.submit(others)
    found: list[Any] = [None] * len(items)
    try:
        found[::2] = [work(item) for item in items[::2]]
    except BaseException:
        stop.set()
        raise
    finally:
        wait([later])  # what it works on is the caller's
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
    halves = [*zip(*(tensor.chunk(2) for tensor in tensors), strict=True)] if tensors[0].is_cpu else [tensors]
    return side_by_side(lambda half: work(*half), halves)


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
        parameter.grad = sum(known[1:], known[0].clone()) if known else None  # a tensor of its own: it may be clipped
    total: Tensor = sum(losses[1:], losses[0])
    return total
