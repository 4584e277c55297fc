"""derain_loss against its float64 reference and the formulas it stands for."""

from __future__ import annotations

import math

import pytest
import torch
from kernel_cases import assert_backward_twice, assert_matches, assert_same_bits, each_kernel, run

from rgsud_fast.ops import derain_loss, ssim, use_backend

SHAPES = [(1, 1, 11, 11), (2, 3, 13, 29), (3, 2, 65, 12), (1, 3, 75, 44), (2, 1, 140, 53)]


def pair(shape, device="cpu", dtype=torch.float32):
    x = torch.rand(shape, dtype=torch.float64)
    y = 0.7 * x + 0.3 * torch.rand(shape, dtype=torch.float64)
    return [x.to(device, dtype).requires_grad_(), y.to(device, dtype)]


def both(derained, clean):
    """Both terms as one tensor, so that their gradients get weights of their own."""
    return torch.stack(derain_loss(derained, clean))


@each_kernel("derain_loss")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 5e-6), (torch.float64, 1e-12)], ids=str)
def test_matches_reference(device, backend, dtype, tolerance, shape):
    assert_matches(both, backend, pair(shape, device, dtype), tolerance)


@each_kernel("derain_loss")
def test_is_the_negative_mean_psnr_and_what_ssim_lacks(device, backend):
    x, y = pair((3, 3, 33, 40), device)
    with use_backend(backend):
        psnr, structure = derain_loss(x, y)
    errors = ((x - y) ** 2).mean(dim=(1, 2, 3)).tolist()
    assert psnr.item() == pytest.approx(sum(10 * math.log10(error) for error in errors) / 3, abs=1e-4)
    assert structure.item() == pytest.approx(1 - ssim(x, y).item(), abs=1e-6)


@each_kernel("derain_loss")
def test_equal_images_cost_nothing_and_stay_finite(device, backend):
    x, _ = pair((2, 3, 30, 45), device)
    values, v_x = run(both, backend, [x, x.detach()])
    assert values[0].item() == pytest.approx(-80, abs=1e-3)
    assert values[1].item() == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(v_x).all()


@each_kernel("derain_loss")
def test_the_target_gets_no_gradient(device, backend):
    x, y = pair((1, 3, 20, 20), device)
    y.requires_grad_()
    with use_backend(backend):
        sum(derain_loss(x, y)).backward()
    assert x.grad.abs().sum() > 0
    assert y.grad is None


@each_kernel("derain_loss")
def test_one_term_alone_has_its_own_gradient(device, backend):
    x, y = pair((2, 3, 20, 23), device)
    for term in (0, 1):
        assert_matches(lambda derained, clean, term=term: derain_loss(derained, clean)[term], backend, [x, y], 5e-6)


@each_kernel("derain_loss")
def test_gradcheck(device, backend):
    x, y = pair((2, 1, 12, 14), device, torch.float64)
    with use_backend(backend):
        assert torch.autograd.gradcheck(lambda derained: derain_loss(derained, y), [x])


@each_kernel("derain_loss")
def test_half_precision_is_scored_in_float32(device, backend):
    x, y = pair((1, 3, 16, 16), device, torch.bfloat16)
    with use_backend(backend):
        terms = derain_loss(x, y)
    sum(terms).backward()
    assert {term.dtype for term in terms} == {torch.float32}
    assert x.grad.dtype == torch.bfloat16


@each_kernel("derain_loss")
def test_same_bits_every_run(device, backend):
    assert_same_bits(both, backend, pair((2, 3, 70, 47), device))


@each_kernel("derain_loss")
def test_backward_runs_twice(device, backend):
    x, y = pair((1, 3, 20, 20), device)
    assert_backward_twice(lambda derained: both(derained, y), backend, [x])


def test_refuses_images_of_other_sizes():
    with pytest.raises(ValueError, match="clean must match derained"):
        derain_loss(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 17))
    with pytest.raises(ValueError, match="at least 11"):
        derain_loss(torch.rand(1, 3, 10, 16), torch.rand(1, 3, 10, 16))
