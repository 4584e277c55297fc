"""Gradient norms of each loss term at each network: they tell whether one term swamps another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn


def gradient_norms(terms: dict[str, Tensor], networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Norms of the weighted terms' gradients, before clipping.

    Trap 1 of the method: at the derainer the reward loss, badly scaled, is nothing beside the pair loss, or everything.

    Args:
        terms: the weighted terms of a loss by name, scalars, whose graph is still alive; it is used up.
        networks: those trained by them, by name.

    Returns:
        gradient_TERM_NETWORK: scalars, in the order of terms. A network that a term does not reach is left out.
    """
    parameters = {name: [p for p in net.parameters() if p.requires_grad] for name, net in networks.items()}
    everything = [parameter for some in parameters.values() for parameter in some]
    norms = {}
    for term, value in terms.items():
        last = term == next(reversed(terms))
        found = iter(torch.autograd.grad(value, everything, retain_graph=not last, allow_unused=True))
        for network, some in parameters.items():
            reached = [gradient for gradient in (next(found) for _ in some) if gradient is not None]
            if reached:
                norms[f"gradient_{term}_{network}"] = nn.utils.get_total_norm(reached)
    return norms


@contextlib.contextmanager
def keep_buffers(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Put the networks' buffers, such as running statistics, back to what they were before what is done meanwhile."""
    buffers = [buffer for network in networks for buffer in network.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
