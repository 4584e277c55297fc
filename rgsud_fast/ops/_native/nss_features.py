"""nss_features by csrc/cpu/nss_features.h."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _C, address, dtype_name, threads


def forward(images: Tensor, block: int, tables: Sequence[Tensor]) -> Tensor:
    """[N, 3, H, W] -> [N, blocks, 36]; `tables` are shape, boundaries, scale and centre of the shapes tried."""
    count, _, height, width = images.shape
    features = images.new_empty(count, (height // block) * (width // block), 36, dtype=torch.float64)
    sizes, addresses = [count, height, width, block], [address(table) for table in tables]
    arguments = dtype_name(images), address(images), address(features), sizes, addresses
    _C.nss_features_cpu(*arguments, len(tables[0]), threads())
    return features
