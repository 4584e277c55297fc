"""high_pass against its float64 reference, and what a high pass must do."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import assert_backward_twice, assert_matches, assert_same_bits, each_kernel

from rgsud_fast.ops import high_pass, use_backend, with_high_pass

EITHER = pytest.mark.parametrize("op", [high_pass, with_high_pass], ids=lambda op: op.__name__)
SHAPES = [(1, 1, 8, 8), (2, 3, 9, 31), (1, 2, 33, 8), (2, 3, 40, 65), (1, 1, 70, 129)]


def image(shape, device, dtype=torch.float32):
    return torch.rand(shape, dtype=torch.float64).to(device, dtype).requires_grad_()


@each_kernel("high_pass")
@EITHER
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "dtype, tolerance",
    [(torch.float32, 5e-7), (torch.float64, 1e-15), (torch.bfloat16, 4e-3), (torch.float16, 5e-4)],
    ids=str,
)
def test_matches_reference(device, backend, op, dtype, tolerance, shape):
    assert_matches(op, backend, [image(shape, device, dtype)], tolerance)


@each_kernel("high_pass")
@EITHER
def test_gradcheck(device, backend, op):
    with use_backend(backend):
        assert torch.autograd.gradcheck(op, [image((1, 2, 8, 11), device, torch.float64)])


@each_kernel("high_pass")
@EITHER
def test_backward_is_the_adjoint(device, backend, op):
    x = image((2, 2, 17, 20), device, torch.float64)
    with use_backend(backend):
        out = op(x)
    y = torch.rand_like(out)
    (v_x,) = torch.autograd.grad(out, x, y)
    assert torch.allclose((out * y).sum(), (x * v_x).sum(), rtol=1e-13)


@each_kernel("high_pass")
@EITHER
def test_strided_and_offset_images(device, backend, op):
    whole = torch.rand(2, 3, 40, 44, device=device)
    for view in (
        whole[:, ::2, 3:30, 5::2],
        whole.transpose(2, 3),
        whole.flip(3),
        whole.to(memory_format=torch.channels_last),
    ):
        assert_matches(op, backend, [view.detach().requires_grad_()], 5e-7)


@each_kernel("high_pass")
def test_flat_image_has_no_detail(device, backend):
    with use_backend(backend):
        assert high_pass(torch.full((1, 3, 24, 37), 0.7, device=device)).abs().max() < 5e-7


@each_kernel("high_pass")
@EITHER
def test_same_bits_every_run(device, backend, op):
    assert_same_bits(op, backend, [image((2, 3, 33, 47), device)])


@each_kernel("high_pass")
def test_beside_the_image_is_the_same_detail(device, backend):
    x = image((2, 3, 33, 47), device)
    with use_backend(backend):
        both, detail = with_high_pass(x), high_pass(x)
    assert torch.equal(both[:, :3], x)
    assert torch.equal(both[:, 3:], detail)


def test_same_bits_for_any_number_of_threads():
    x = image((2, 3, 41, 47), "cpu")
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(high_pass(x))
    assert torch.equal(*results)


@each_kernel("high_pass")
@EITHER
def test_backward_runs_twice(device, backend, op):
    assert_backward_twice(op, backend, [image((1, 3, 20, 20), device)])


@pytest.mark.parametrize(
    "bad", [torch.rand(3, 16, 16), torch.rand(1, 3, 7, 16), torch.rand(1, 3, 16, 7)], ids=["3-D", "low", "narrow"]
)
def test_refuses_what_it_cannot_reflect(bad):
    with pytest.raises(ValueError, match="image must be"):
        high_pass(bad)


def test_refuses_bytes():
    with pytest.raises(TypeError, match="uint8"):
        high_pass(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
