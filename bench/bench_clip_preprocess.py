"""clip_preprocess: native and Triton against plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from op_cases import DEVICE, providers, race

from rgsud_fast.ops.clip_preprocess import clip_preprocess, reference


@pytest.mark.parametrize("shape", [(1, 321, 481), (8, 480, 480)], ids=str)
@pytest.mark.parametrize("provider", providers("clip_preprocess", clip_preprocess, {"plain": reference}))
def bench_clip_preprocess(benchmark, provider, shape):
    images = torch.rand(shape[0], 3, *shape[1:], device=DEVICE)
    benchmark.extra_info.update(case=f"clip_preprocess {list(images.shape)}", bytes=images.nbytes, dtype="float32")
    race(benchmark, provider, lambda preprocess: preprocess(images), rounds=20, warm_up=3)
