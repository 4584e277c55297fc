"""nss_features by csrc/cpu/nss_features.h."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import _C, address, dtype_name, threads

if TYPE_CHECKING:
    from ..nss_features import Form, Layout, Shapes


def forward(images: Tensor, layout: Layout, form: Form, shapes: Shapes) -> Tensor:
    """[N, 3, H, W] -> [N, blocks, 36]."""
    (height, width), (block_height, block_width) = layout.sizes[0], layout.blocks[0]
    blocks = (height // block_height) * (width // block_width)
    features = images.new_empty(len(images), blocks, 36, dtype=torch.float64)
    by_scale = [side for pair in (layout.sizes, layout.blocks) for sides in zip(*pair, strict=True) for side in sides]
    flags = (form.cyclic, form.symmetric, layout.whole, form.single_grey, form.single)
    _C.nss_features_cpu(
        dtype_name(images),
        address(images),
        address(features),
        [len(images), *images.shape[2:], *by_scale],
        [*layout.down.numbers, *layout.across.numbers],
        [*form.grey, form.constant, form.gain, form.level],
        [int(flag) for flag in flags],
        [address(table) for table in shapes],
        len(shapes.shape),
        threads(),
    )
    return features
