"""A backward pass in Python: autograd's own engine asks the driver for streams, and there is none.

It calls the same nodes in the same order and adds gradients where they meet, as the engine does.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def backward(loss: Tensor, inputs: Iterable[Tensor] | None = None) -> None:
    """Put the gradient of a scalar into `.grad` of its leaves.

    Args:
        loss: the scalar.
        inputs: the leaves; default: all. Others that require a gradient must not be reached: unlike the engine this
            one cannot spare a node the gradients that nobody asks for.
    """
    wanted = None if inputs is None else {id(leaf) for leaf in inputs}
    waiting = _dependencies(loss.grad_fn)
    grads: dict[Any, list[Tensor | None]] = {loss.grad_fn: [torch.ones_like(loss)]}
    order = itertools.count()
    ready = [(_priority(loss.grad_fn), next(order), loss.grad_fn)]
    while ready:
        node = heapq.heappop(ready)[2]
        incoming = grads.pop(node)
        if hasattr(node, "variable"):
            if wanted is not None and id(node.variable) not in wanted:
                raise ValueError(f"a leaf {list(node.variable.shape)} that nobody asked for requires a gradient")
            _accumulate(node.variable, incoming[0])
            continue
        outgoing = _call(node, incoming)
        del incoming
        for (after, place), grad in zip(node.next_functions, outgoing, strict=False):
            if after is None:
                continue
            _add(grads.setdefault(after, []), place, grad)
            waiting[after] -= 1
            if not waiting[after]:
                heapq.heappush(ready, (_priority(after), next(order), after))


def _dependencies(root: Any) -> dict[Any, int]:
    counts, seen, stack = {root: 0}, {root}, [root]
    while stack:
        for after, _ in stack.pop().next_functions:
            if after is None:
                continue
            counts[after] = counts.get(after, 0) + 1
            if after not in seen:
                seen.add(after)
                stack.append(after)
    return counts


def _priority(node: Any) -> int:
    return -node._sequence_nr()  # the latest first; leaves, which have the highest number, at once


def _add(buffer: list[Tensor | None], place: int, grad: Tensor | None) -> None:
    buffer.extend([None] * (place + 1 - len(buffer)))
    if grad is not None:
        before = buffer[place]
        buffer[place] = grad if before is None else before + grad


def _call(node: Any, incoming: list[Tensor | None]) -> list[Tensor | None]:
    """The gradients that a node sends along its edges."""
    metadata = node._input_metadata
    incoming.extend([None] * (len(metadata) - len(incoming)))
    if not isinstance(node, torch.autograd.function.BackwardCFunction):
        outgoing = node(*incoming)
        outgoing = list(outgoing) if isinstance(outgoing, tuple) else [outgoing]
    else:
        filled = [
            torch.zeros(expected.shape, dtype=expected.dtype, device=expected.device) if grad is None else grad
            for grad, expected in zip(incoming, metadata, strict=True)
        ]
        found = node.apply(*filled)
        found = found if isinstance(found, tuple) else (found,)
        # It gives a gradient for every argument, and has edges for the tensors alone.
        asked = iter([grad for grad, needed in zip(found, node.needs_input_grad, strict=True) if needed])
        outgoing = [None if after is None else next(asked) for after, _ in node.next_functions]
    return [_fit(grad, *edge) for grad, edge in zip(outgoing, node.next_functions, strict=False)]


def _fit(grad: Tensor | None, after: Any, place: int) -> Tensor | None:
    """A gradient as the next node expects it: what was broadcast forward is summed, what was widened is rounded."""
    if grad is None or after is None:
        return grad
    expected = after.variable if hasattr(after, "variable") else after._input_metadata[place]
    if tuple(grad.shape) != tuple(expected.shape):
        grad = grad.sum_to_size(expected.shape)
    return grad.to(expected.dtype)


def _accumulate(leaf: Tensor, grad: Tensor | None) -> None:
    if grad is None:
        return
    if leaf.grad is not None:
        leaf.grad += grad
    elif _lies_as(grad, leaf):
        leaf.grad = grad
    else:
        leaf.grad = torch.empty_like(leaf).copy_(grad)


def _lies_as(grad: Tensor, leaf: Tensor) -> bool:
    """Whether autograd takes a gradient as it is: its strides are the leaf's, but where a side is 1."""
    return all(size == 1 or a == b for size, a, b in zip(leaf.shape, grad.stride(), leaf.stride(), strict=True))
