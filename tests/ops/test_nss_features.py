"""nss_features: the kernels against the reference, which test_niqe.py holds against a naive computation."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import each_kernel
from photographs import photographs

from rgsud_fast.ops import nss_features, use_backend
from rgsud_fast.ops.nss_features import MATLAB, OPENCV, YIQ, reference

# OpenCV's form is float32 arithmetic, of which a compiler may fuse more than the reference does.
FORMS = {"MATLAB": (MATLAB, 1e-6), "YIQ": (YIQ, 1e-6), "OPENCV": (OPENCV, 2e-5)}


@each_kernel("nss_features")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "shape, block",
    [((2, 192, 288), 96), ((1, 100, 250), 96), ((3, 37, 50), 12), ((1, 24, 33), 6), ((2, 150, 171), None)],
    ids=str,
)
def test_matches_reference(device, backend, shape, block, form):
    form, tolerance = FORMS[form]
    images = photographs(*shape, device)
    with use_backend(backend):
        got = nss_features(images, block, form)
    wanted = reference(images, block, form)
    blocks = () if block is None else ((shape[1] // block) * (shape[2] // block),)
    assert got.shape == wanted.shape == (shape[0], *blocks, 36)
    assert wanted.isfinite().float().mean() > 0.5
    assert torch.equal(got.isnan(), wanted.isnan())
    apart = (got - wanted).nan_to_num().abs()
    # A shape half-way between two steps of the grid of 0.001 may be taken for either.
    assert apart.max() < (3.1e-3 if form.single else 1.1e-3)
    assert (apart > tolerance).float().mean() < (0.02 if form.single else 0.006)


@each_kernel("nss_features")
def test_flat_and_damaged_images_spoil_themselves_alone(device, backend):
    images = photographs(3, 192, 192, device)
    alone = images[1:2].clone()
    images[0] = 0.4
    images[2, :, 20, 20] = torch.nan
    with use_backend(backend):
        features, good = nss_features(images), nss_features(alone)
    assert torch.equal(features[1:2], good)
    assert good.isfinite().all()
    assert not features[0].isfinite().any(1).all()
    assert not features[2, 0].isfinite().all()


@each_kernel("nss_features")
def test_strided_images_and_half_precision(device, backend):
    whole = photographs(2, 120, 260, device)
    view = whole[:, :, 5:110, 3:215].flip(3)
    with use_backend(backend):
        assert torch.equal(nss_features(view), nss_features(view.contiguous()))
        assert torch.equal(nss_features(whole.bfloat16()), nss_features(whole.bfloat16().float()))


def test_same_bits_for_any_number_of_threads_and_any_batch():
    images = photographs(3, 192, 192)
    together = nss_features(images)
    torch.set_num_threads(2)
    assert torch.equal(nss_features(images), together)
    assert torch.equal(torch.cat([nss_features(image[None]) for image in images]), together)


def test_too_small_images_have_no_blocks():
    assert nss_features(torch.rand(2, 3, 95, 400)).shape == (2, 0, 36)


def test_refuses_other_channels_and_odd_blocks():
    with pytest.raises(ValueError, match=r"images must be \[N, 3, H, W\]"):
        nss_features(torch.rand(1, 1, 96, 96))
    with pytest.raises(ValueError, match="block must be even"):
        nss_features(torch.rand(1, 3, 96, 96), 95)
    with pytest.raises(TypeError, match="uint8"):
        nss_features(torch.zeros(1, 3, 96, 96, dtype=torch.uint8))
