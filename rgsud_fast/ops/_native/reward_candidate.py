"""reward_candidate by csrc/cpu/reward_candidate.h or kernels/cuda/reward_candidate.cu."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _C, address, on_device, stream, threads


def forward(rainy: Tensor, derained: Tensor, mirrored: Tensor | None, grey_layer: bool, image: Tensor | None) -> Tensor:
    """Fill `image` where there is one, else `derained` is the image; the numbers of RemovedLayer, [N, 6] float64."""
    layers = rainy.new_empty(len(rainy), 6, dtype=torch.float64)
    sizes = len(rainy), *rainy.shape[2:]
    if not rainy.is_cuda:
        tensors = [address(tensor) for tensor in (rainy, derained, mirrored, image, layers)]
        _C.reward_candidate_cpu(tensors, sizes, grey_layer, threads())
        return layers
    with on_device(rainy):
        partials = rainy.new_empty(_C.reward_candidate_cuda_partials(sizes), dtype=torch.float64)
        tensors = [address(tensor) for tensor in (rainy, derained, mirrored, image, partials, layers)]
        _C.reward_candidate_cuda(tensors, sizes, grey_layer, stream(rainy))
    return layers
