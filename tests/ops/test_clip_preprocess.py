"""clip_preprocess: the kernels against PyTorch's own resize, and against Pillow's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kernel_cases import each_kernel
from PIL import Image

from rgsud_fast.ops import clip_preprocess, use_backend
from rgsud_fast.ops.clip_preprocess import DEVIATION, MEAN, reference

SIZES = [(41, 60), (33, 30), (24, 24), (20, 30), (25, 90)]
TOLERANCE = 1e-5  # of float32; PyTorch itself, whose weights are float32, is off by 5e-5


@each_kernel("clip_preprocess")
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_matches_reference(device, backend, size):
    images = torch.rand(2, 3, *size, device=device) * 1.2 - 0.1
    with use_backend(backend):
        got = clip_preprocess(images, 24)
    assert got.shape == (2, 3, 24, 24)
    torch.testing.assert_close(got.double(), reference(images.double(), 24), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("size", [(321, 481), (480, 320), (225, 700)], ids=str)
def test_matches_reference_at_the_sizes_of_photographs(size):
    images = torch.rand(1, 3, *size)
    torch.testing.assert_close(clip_preprocess(images).double(), reference(images.double()), rtol=0, atol=TOLERANCE)


@each_kernel("clip_preprocess")
def test_strided_half_precision_and_any_batch(device, backend):
    images = torch.rand(3, 3, 20, 26, device=device)
    with use_backend(backend):
        together = clip_preprocess(images, 16)
        assert torch.equal(torch.cat([clip_preprocess(image[None], 16) for image in images]), together)
        assert torch.equal(clip_preprocess(images.flip(3), 16), clip_preprocess(images.flip(3).contiguous(), 16))
        half = clip_preprocess(images.bfloat16(), 16)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), together, rtol=0.02, atol=0.03)


@each_kernel("clip_preprocess")
def test_nan_spoils_its_own_image_alone(device, backend):
    images = torch.rand(2, 3, 30, 30, device=device)
    images[0, 1, 15, 15] = torch.nan
    with use_backend(backend):
        got = clip_preprocess(images, 16)
    assert got[0].isnan().any()
    assert got[1].isfinite().all()


def test_matches_pillow():
    array = np.random.default_rng(0).integers(0, 256, (100, 150, 3), np.uint8)
    smooth = Image.fromarray(array).resize((300, 200), Image.Resampling.BICUBIC)
    resized = np.asarray(smooth.resize((96, 64), Image.Resampling.BICUBIC))[:, 16:80] / 255
    expected = (resized - np.array(MEAN)) / np.array(DEVIATION)
    got = clip_preprocess(torch.from_numpy(np.asarray(smooth).copy()).permute(2, 0, 1)[None].float() / 255, 64)
    np.testing.assert_allclose(
        got[0].permute(1, 2, 0), expected, rtol=0, atol=3 / 255 / min(DEVIATION)
    )  # rounded thrice


def test_refuses_other_channels():
    with pytest.raises(ValueError, match=r"images must be \[N, 3, H, W\]"):
        clip_preprocess(torch.rand(1, 1, 96, 96))
