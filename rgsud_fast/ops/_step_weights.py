"""What the layers of a training step in half precision share: rounded weights, and gradients that are yet to be added.

A layer asks `rounded` for its weights and hands the gradients at them to `owe`. Where no step has begun these do at
once what is to be done. Within `StepWeights` all weights are rounded together as the step begins, and all gradients
widened and added together by `gather`, in a few launches in place of one or two for each layer.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

_active: StepWeights | None = None

Key = tuple[int, int, torch.dtype]  # of a weight, of what scales its rows (0: nothing), and the dtype


class StepWeights:
    """Round what the layers ask for once at the beginning of a step, for one `with` block after another.

    A weight is asked for by its layers in the first step, where it is rounded as it comes, and known from then on. The
    weights must not change while a layer may ask.

    Args:
        on: whether to do so, or to leave every layer to itself; needs Triton.
    """

    def __init__(self, on: bool = True) -> None:
        self._on = on
        self._known: dict[Key, tuple[Tensor, Tensor | None]] = {}
        self._tables: dict[torch.dtype, Any] = {}  # of the kernel; made anew where a weight is new or lies elsewhere
        self._rounded: dict[Key, Tensor] = {}
        self._addresses: list[int] = []
        self._owed: list[tuple[Tensor, Tensor]] = []
        self._parts: list[tuple[Tensor, Tensor]] = []

    def __enter__(self) -> StepWeights:
        global _active
        if self._on:
            self._round()
            _active = self
        return self

    def __exit__(self, *exc: object) -> None:
        global _active
        _active = None
        self._owed, self._parts = [], []

    def find(self, weight: Tensor, factor: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """The rounded weight, or None where it is not known yet."""
        key = id(weight), 0 if factor is None else id(factor), dtype
        if key not in self._rounded and _can_be_rounded(weight, factor):
            self._known[key] = weight, factor
        return self._rounded.get(key)

    def owe(self, weight: Tensor, grad: Tensor, parts: bool) -> None:
        """Keep a gradient at a parameter until `gather`; `parts`: it is the sum over the first axis."""
        (self._parts if parts else self._owed).append((weight, grad))

    @torch.no_grad()
    def gather(self) -> None:
        """Add what is owed to the parameters' `.grad`."""
        found: dict[Tensor, list[Tensor]] = {}
        groups: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for bias, parts in self._parts:
            groups.setdefault(parts.shape, []).append((bias, parts))
        for group in groups.values():
            sums = torch.stack([parts for _, parts in group]).sum(1) if len(group) > 1 else group[0][1].sum(0)[None]
            for (bias, _), grad in zip(group, sums, strict=True):
                found.setdefault(bias, []).append(grad)
        wide = [torch.empty_like(weight) for weight, _ in self._owed]
        if wide:
            torch._foreach_copy_(wide, [_laid_as(grad, weight) for weight, grad in self._owed])
        for (weight, _), grad in zip(self._owed, wide, strict=True):
            found.setdefault(weight, []).append(grad)
        self._owed, self._parts = [], []
        _add_to_grads(found)

    def _round(self) -> None:
        tensors = [tensor for pair in self._known.values() for tensor in pair if tensor is not None]
        addresses = [tensor.data_ptr() for tensor in tensors]
        if addresses != self._addresses or len(self._rounded) != len(self._known):
            self._addresses, self._rounded = addresses, {}
            self._tables = {dtype: self._table(dtype) for dtype in {key[2] for key in self._known}}
        for table in self._tables.values():
            table()

    def _table(self, dtype: torch.dtype) -> Any:
        kernel = importlib.import_module("rgsud_fast.kernels.triton.step_weights")
        known = {key: pair for key, pair in self._known.items() if key[2] == dtype}
        table = kernel.Rounding(list(known.values()), dtype)
        self._rounded |= dict(zip(known, table.rounded, strict=True))
        return table


def rounded(weight: Tensor, dtype: torch.dtype, factor: Tensor | None = None) -> Tensor:
    """A weight in the dtype of the features, its rows times `factor`, one for each, where given."""
    if dtype == weight.dtype and factor is None:
        return weight
    if _active is not None and (found := _active.find(weight, factor, dtype)) is not None:
        return found
    return (weight if factor is None else weight * factor.view(-1, *[1] * (weight.ndim - 1))).to(dtype)


def owe(weight: Tensor, grad: Tensor | None) -> Tensor | None:
    """What to return from a backward pass as the gradient at a weight: None where it is added later, or not wanted."""
    if grad is None or _keeps(weight, grad, parts=False):
        return None
    return grad.to(weight.dtype)


def owe_sum(weight: Tensor | None, parts: Tensor) -> Tensor | None:
    """As `owe`, of a gradient that is the sum over the first axis of `parts`."""
    if weight is not None and _keeps(weight, parts, parts=True):
        return None
    return parts.sum(0)


def in_step() -> bool:
    """Whether weights are rounded together."""
    return _active is not None


def _keeps(weight: Tensor, grad: Tensor, parts: bool) -> bool:
    if _active is None or not isinstance(weight, nn.Parameter):
        return False
    if weight.requires_grad:
        _active.owe(weight, grad, parts)
    return True


def _can_be_rounded(*tensors: Tensor | None) -> bool:
    # Other tensors may be made anew for every step.
    return all(
        isinstance(tensor, nn.Parameter)
        and tensor.dtype == torch.float32
        and tensor.data_ptr() % 16 == 0
        and torch.ops.aten.is_non_overlapping_and_dense.default(tensor)
        for tensor in tensors
        if tensor is not None
    )


def _laid_as(grad: Tensor, weight: Tensor) -> Tensor:
    """The gradient with the weight's strides, for which sides of 1 are none."""
    strides = zip(weight.shape, grad.stride(), weight.stride(), strict=True)
    if all(size == 1 or mine == wanted for size, mine, wanted in strides):
        return grad.as_strided(weight.shape, weight.stride())
    return torch.empty_like(weight, dtype=grad.dtype).copy_(grad)


def _add_to_grads(found: dict[Tensor, list[Tensor]]) -> None:
    """Give every parameter the sum of its gradients, in the order in which they came."""
    for weight, grads in found.items():
        if weight.grad is not None:
            grads.insert(0, weight.grad)
        weight.grad = grads[0]
    for turn in range(1, max(map(len, found.values()), default=0)):
        some = [grads for grads in found.values() if turn < len(grads)]
        torch._foreach_add_([grads[0] for grads in some], [grads[turn] for grads in some])
