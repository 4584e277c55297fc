"""rain_residual against its float64 reference, and its refusals."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import assert_backward_twice, assert_matches, each_kernel

from rgsud_fast.ops import rain_residual, use_backend


def flat(*images):
    """rain_residual of scenes given one after another."""
    return rain_residual(*(images[i : i + 3] for i in range(0, len(images), 3)))


def images(count, shape=(2, 3, 17, 23), device="cpu", dtype=torch.float32):
    return [torch.rand(shape, dtype=torch.float64).to(device, dtype).requires_grad_() for _ in range(count)]


@each_kernel("rain_residual")
@pytest.mark.parametrize("scenes", [1, 3])
@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float32, 1e-7), (torch.float64, 1e-15), (torch.bfloat16, 4e-3)], ids=str
)
def test_matches_reference(device, backend, scenes, dtype, tolerance):
    assert_matches(flat, backend, images(3 * scenes, device=device, dtype=dtype), tolerance)


@each_kernel("rain_residual")
def test_strided_images(device, backend):
    whole = torch.rand(2, 3, 40, 44, device=device)
    views = whole[:, :, 3:30, 5::2], whole[:, :, 4:31, 4::2], whole.flip(2)[:, :, 3:30, 5::2]
    assert_matches(flat, backend, [view.detach().requires_grad_() for view in views], 1e-7)


@each_kernel("rain_residual")
def test_an_image_in_several_scenes_gathers_their_gradients(device, backend):
    clean, rainy, estimate = images(3, device=device)
    with use_backend(backend):
        out = rain_residual((clean, rainy, estimate), (clean, rainy, estimate.detach()), (clean, clean, clean))
    v_out = torch.rand_like(out)
    grads = torch.autograd.grad(out, (clean, rainy, estimate), v_out)
    image, rain = v_out.chunk(2, 1)
    parts = image.chunk(3), rain.chunk(3)
    for got, wanted in zip(grads, (sum(parts[0]), parts[1][0] + parts[1][1], -parts[1][0]), strict=True):
        torch.testing.assert_close(got, wanted)


@each_kernel("rain_residual")
def test_backward_runs_twice(device, backend):
    assert_backward_twice(flat, backend, images(3, device=device))


def test_refuses_images_that_are_not_alike():
    clean, rainy, estimate = images(3)
    with pytest.raises(ValueError, match="at least one scene"):
        rain_residual()
    with pytest.raises(ValueError, match="rainy must match clean"):
        rain_residual((clean, rainy[:1], estimate))
    with pytest.raises(ValueError, match=r"clean must be \[N, 3, H, W\]"):
        rain_residual((clean[:, :2], rainy[:, :2], estimate[:, :2]))
