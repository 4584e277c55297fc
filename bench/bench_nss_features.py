"""nss_features: native against plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from op_cases import DEVICE, providers, race

from rgsud_fast.ops.nss_features import nss_features, reference


@pytest.mark.parametrize("shape", [(1, 480, 320), (8, 480, 480)], ids=str)
@pytest.mark.parametrize("provider", providers("nss_features", nss_features, {"plain": reference}))
def bench_nss_features(benchmark, provider, shape):
    images = torch.rand(shape[0], 3, *shape[1:], device=DEVICE)
    benchmark.extra_info.update(case=f"nss_features {list(images.shape)}", bytes=images.nbytes, dtype="float32")
    race(benchmark, provider, lambda features: features(images), rounds=20, warm_up=3)
