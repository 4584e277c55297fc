"""ssim against its float64 reference and an independent implementation, and what SSIM must do."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import assert_backward_twice, assert_matches, assert_same_bits, each_kernel, run
from skimage.metrics import structural_similarity

from rgsud_fast.ops import ssim, use_backend

SHAPES = [(1, 1, 11, 11), (2, 3, 13, 29), (1, 2, 65, 12), (1, 3, 75, 44), (1, 1, 140, 33)]


def pair(shape, device, dtype=torch.float32, grad=(True, True)):
    x = torch.rand(shape, dtype=torch.float64)
    y = 0.7 * x + 0.3 * torch.rand(shape, dtype=torch.float64)
    return [tensor.to(device, dtype).requires_grad_(on) for tensor, on in zip((x, y), grad, strict=True)]


@each_kernel("ssim")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 5e-6), (torch.float64, 1e-13)], ids=str)
def test_matches_reference(device, backend, dtype, tolerance, shape):
    assert_matches(ssim, backend, pair(shape, device, dtype), tolerance)


@each_kernel("ssim")
@pytest.mark.parametrize("grad", [(True, False), (False, True)], ids=["x", "y"])
def test_gradient_at_one_side_only(device, backend, grad):
    assert_matches(ssim, backend, pair((1, 3, 20, 75), device, grad=grad), 5e-6)


@each_kernel("ssim")
def test_value_is_the_same_without_gradients(device, backend):
    x, y = pair((2, 3, 75, 20), device)
    with use_backend(backend), torch.no_grad():
        value = ssim(x, y)
    assert torch.equal(value, run(ssim, backend, [x, y])[0])


@each_kernel("ssim")
def test_gradcheck(device, backend):
    with use_backend(backend):
        assert torch.autograd.gradcheck(ssim, pair((1, 1, 12, 14), device, torch.float64))


@each_kernel("ssim")
def test_half_precision_is_scored_in_float32(device, backend):
    x, y = pair((1, 3, 16, 16), device, torch.bfloat16)
    with use_backend(backend):
        value = ssim(x, y)
    value.backward()
    assert value.dtype == torch.float32
    assert x.grad.dtype == torch.bfloat16


@each_kernel("ssim")
def test_strided_images(device, backend):
    x, y = torch.rand(2, 2, 3, 40, 44, device=device)
    views = [x[:, ::2, 3:30, 5::2], y[:, ::2, 3:30, 5::2]]
    assert_matches(ssim, backend, [view.detach().requires_grad_() for view in views], 5e-6)


@each_kernel("ssim")
def test_an_image_is_wholly_like_itself(device, backend):
    x, _ = pair((1, 3, 30, 30), device)
    value, v_x, v_y = run(ssim, backend, [x, x.detach().clone().requires_grad_()])
    assert value.item() == pytest.approx(1, abs=1e-6)
    assert max(v_x.abs().max(), v_y.abs().max()) < 1e-6


@each_kernel("ssim")
def test_same_bits_every_run(device, backend):
    assert_same_bits(ssim, backend, pair((2, 3, 70, 47), device))


def test_same_bits_for_any_number_of_threads():
    x, y = pair((2, 3, 70, 47), "cpu")
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(run(ssim, "auto", [x, y]))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@each_kernel("ssim")
def test_backward_runs_twice(device, backend):
    assert_backward_twice(ssim, backend, pair((1, 3, 20, 20), device))


def test_agrees_with_scikit_image():
    x, y = pair((1, 1, 48, 52), "cpu", torch.float64, grad=(False, False))
    got = ssim(x, y).item()
    _, every = structural_similarity(
        x[0, 0].numpy(), y[0, 0].numpy(), data_range=1, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    assert got == pytest.approx(every[5:-5, 5:-5].mean(), abs=1e-12)


def test_refuses_images_of_other_sizes():
    with pytest.raises(ValueError, match="y must match x"):
        ssim(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 17))
    with pytest.raises(ValueError, match="at least 11"):
        ssim(torch.rand(1, 3, 10, 16), torch.rand(1, 3, 10, 16))
