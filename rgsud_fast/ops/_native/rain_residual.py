"""rain_residual by csrc/cpu/rain_residual.h."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _C, address, dtype_name, threads


def forward(images: Sequence[Tensor]) -> Tensor:
    """The scenes' images (clean, rainy, estimate, clean, ...) packed; see the op. Half precision goes by float32."""
    if images[0].dtype in (torch.float16, torch.bfloat16):
        return forward([image.float() for image in images]).to(images[0].dtype)
    count, channels, height, width = images[0].shape
    images, scenes = [image.contiguous() for image in images], len(images) // 3
    out = images[0].new_empty(scenes * count, 2 * channels, height, width)
    for scene, part in enumerate(out.chunk(scenes)):
        tensors = [address(image) for image in images[3 * scene : 3 * scene + 3]]
        _C.rain_residual_cpu(dtype_name(out), *tensors, address(part), count, height * width, threads())
    return out
