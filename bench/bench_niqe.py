"""niqe of eight images against pyiqa's, where that is installed: the whole score, one image at a time."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from op_cases import DEVICE, Provider, race

from rgsud_fast.iqa import NiqeModel, fit_niqe_model, niqe
from rgsud_fast.ops.nss_features import YIQ

COUNT, SIDE = 8, 480


def photographs() -> np.ndarray:
    """Noise at several scales, uint8 [COUNT, SIDE, SIDE, 3]: enough like photographs to have their statistics."""
    rng = np.random.default_rng(0)
    images = np.full((COUNT, SIDE, SIDE, 3), 120.0)
    for scale in (1, 4, 16, 48):
        coarse = rng.normal(size=(COUNT, SIDE // scale, SIDE // scale, 3)) * 6 * scale**0.5
        images += coarse.repeat(scale, 1).repeat(scale, 2)
    return images.clip(0, 255).astype(np.uint8)


def theirs(model: NiqeModel, folder):
    """pyiqa's NIQE with the same natural-image model, all images in one call."""
    pyiqa = pytest.importorskip("pyiqa", reason="the extra [iqa] is not installed")
    from scipy.io import savemat

    path = folder / "niqe.mat"
    savemat(path, {"mu_prisparam": model.mu.cpu().numpy()[None], "cov_prisparam": model.cov.cpu().numpy()})
    return pyiqa.create_metric("niqe", device=DEVICE, pretrained_model_path=str(path), check_input_range=False)


def bench_niqe(benchmark, tmp_path):
    arrays = photographs()
    model = fit_niqe_model(arrays, DEVICE)
    images = torch.from_numpy(arrays).to(DEVICE).permute(0, 3, 1, 2).float() / 255
    ours = functools.partial(niqe, model=model, form=YIQ)
    provider = Provider("native", ours, "auto", {"pyiqa": theirs(model, tmp_path)})
    benchmark.extra_info.update(case=f"niqe {list(images.shape)}", bytes=images.nbytes, dtype="float32")
    race(benchmark, provider, lambda score: score(images), rounds=5, warm_up=1)
