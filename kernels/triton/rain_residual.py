"""Triton kernel of rain_residual: one launch per scene writes its part of the packed images, channels last.

Compiled for sm_90 and run by the interpreter; not yet measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._launch import accumulator, on_device

_PIXELS = 256  # of a program


def forward(images: Sequence[Tensor]) -> Tensor:
    """The scenes' images (clean, rainy, estimate, clean, ...) packed; see the op."""
    count, channels, height, width = images[0].shape
    last, scenes = torch.channels_last, len(images) // 3
    images = [image.contiguous(memory_format=last) for image in images]
    sizes = scenes * count, 2 * channels, height, width
    out = torch.empty(sizes, dtype=images[0].dtype, device=images[0].device, memory_format=last)
    with on_device(out):
        for scene, part in enumerate(out.chunk(scenes)):
            clean, rainy, estimate = images[3 * scene : 3 * scene + 3]
            residual_kernel[(triton.cdiv(height * width, _PIXELS), count)](
                clean,
                rainy,
                estimate,
                part,
                height * width,
                ACC=accumulator(out),
                BLOCK=_PIXELS,
            )
    return out


@triton.jit
def residual_kernel(
    clean_ptr,  # [N, 3, H, W], channels last
    rainy_ptr,  # as clean
    estimate_ptr,  # as clean
    out_ptr,  # [N, 6, H, W], channels last
    pixels,  # per plane
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    n = tl.program_id(1).to(tl.int64)
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = p < pixels
    to = out_ptr + (n * pixels + p) * 6
    for channel in tl.static_range(3):
        at = (n * pixels + p) * 3 + channel
        tl.store(to + channel, tl.load(clean_ptr + at, mask=inside), mask=inside)
        rainy = tl.load(rainy_ptr + at, mask=inside).to(ACC)
        estimate = tl.load(estimate_ptr + at, mask=inside).to(ACC)
        tl.store(to + 3 + channel, (rainy - estimate).to(out_ptr.dtype.element_ty), mask=inside)
