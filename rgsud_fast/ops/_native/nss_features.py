"""nss_features by csrc/cpu/nss_features.h or kernels/cuda/nss_features.cu."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import _C, address, dtype_name, on_device, stream, threads

if TYPE_CHECKING:
    from ..nss_features import Form, Layout, Shapes


def forward(images: Tensor, layout: Layout, form: Form, shapes: Shapes) -> Tensor:
    """[N, 3, H, W] -> [N, blocks, 36]."""
    (height, width), (block_height, block_width) = layout.sizes[0], layout.blocks[0]
    blocks = (height // block_height) * (width // block_width)
    features = images.new_empty(len(images), blocks, 36, dtype=torch.float64)
    by_scale = [side for pair in (layout.sizes, layout.blocks) for sides in zip(*pair, strict=True) for side in sides]
    sizes = [len(images), *images.shape[2:], *by_scale]
    taps = [*layout.down.numbers, *layout.across.numbers]
    flags = (form.cyclic, form.symmetric, layout.whole, form.single_grey, form.single)
    numbers = [*form.grey, form.constant, form.gain, form.level], [int(flag) for flag in flags]
    tables = [address(table) for table in shapes], len(shapes.shape)
    if not images.is_cuda:
        places = address(images), address(features)
        _C.nss_features_cpu(dtype_name(images), *places, sizes, taps, *numbers, *tables, threads())
        return features
    with on_device(images):
        scratch = [
            images.new_empty(len(images), height, width, dtype=torch.float32),
            images.new_empty(len(images), *layout.sizes[1], dtype=torch.float64),
            images.new_empty(len(images), height, width, dtype=torch.float32),
            images.new_empty(5 * _C.nss_features_cuda_tails(sizes, taps), dtype=torch.float64),
        ]
        arguments = dtype_name(images), address(images), [address(part) for part in scratch], address(features)
        _C.nss_features_cuda(*arguments, sizes, taps, *numbers, *tables, stream(images))
    return features
