"""layernorm2d against its float64 reference and PyTorch's own layer norm."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from kernel_cases import assert_backward_twice, assert_matches, assert_same_bits, each_kernel, run

from rgsud_fast.ops import layernorm2d, use_backend

SHAPES = [(1, 3, 1, 1), (2, 3, 7, 13), (1, 12, 16, 33), (2, 33, 5, 7)]


def arguments(shape, device, dtype=torch.float32):
    wide = torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype
    x = torch.randn(shape, dtype=torch.float64) + 0.5
    weight, bias = torch.randn(2, shape[1], dtype=torch.float64)
    return [
        x.to(device, dtype).requires_grad_(),
        weight.to(device, wide).requires_grad_(),
        bias.to(device, wide).requires_grad_(),
    ]


@each_kernel("layernorm2d")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
# bfloat16: Triton's interpreter cuts where the GPU rounds, one unit in the last place (2^-7) instead of half of one.
@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-12), (torch.bfloat16, 8e-3)], ids=str
)
def test_matches_reference(device, backend, dtype, tolerance, shape):
    assert_matches(layernorm2d, backend, arguments(shape, device, dtype), tolerance)


@each_kernel("layernorm2d")
def test_more_pixels_than_one_task_or_program(device, backend):
    assert_matches(layernorm2d, backend, arguments((1, 70, 35, 33), device), 1e-5)


@each_kernel("layernorm2d")
def test_gradcheck(device, backend):
    with use_backend(backend):
        assert torch.autograd.gradcheck(layernorm2d, arguments((1, 3, 2, 5), device, torch.float64))


@each_kernel("layernorm2d")
def test_large_mean_does_not_drown_the_variance(device, backend):
    x, weight, bias = arguments((1, 8, 9, 9), device)
    assert_matches(layernorm2d, backend, [(x.detach() + 1000).requires_grad_(), weight, bias], 1e-3)


@each_kernel("layernorm2d")
def test_equals_torch_layer_norm(device, backend):
    x, weight, bias = arguments((2, 6, 5, 7), device)
    wanted = F.layer_norm(x.permute(0, 2, 3, 1), (6,), weight, bias, 1e-6).permute(0, 3, 1, 2)
    with use_backend(backend):
        assert torch.allclose(layernorm2d(x, weight, bias), wanted, atol=1e-5)


@each_kernel("layernorm2d")
def test_strided_features(device, backend):
    x, weight, bias = arguments((2, 6, 12, 14), device)
    view = x.detach()[:, ::2, 1:, ::3].requires_grad_()
    assert_matches(
        layernorm2d, backend, [view, weight.detach()[::2].requires_grad_(), bias.detach()[:3].requires_grad_()], 1e-5
    )


@each_kernel("layernorm2d")
def test_same_bits_every_run(device, backend):
    assert_same_bits(layernorm2d, backend, arguments((2, 6, 13, 17), device))


def test_threads_change_no_bit():
    inputs = arguments((2, 5, 101, 103), "cpu")  # 20,806 pixels; a second thread is used from 8,192 on
    v_out = torch.randn(2, 5, 101, 103)
    torch.set_num_threads(2)
    two = run(layernorm2d, "native", inputs, v_out)
    torch.set_num_threads(1)
    for one, other in zip(run(layernorm2d, "native", inputs, v_out), two, strict=True):
        assert torch.equal(one, other)


@each_kernel("layernorm2d")
def test_backward_runs_twice(device, backend):
    assert_backward_twice(layernorm2d, backend, arguments((1, 4, 6, 6), device))


def test_refuses_a_weight_of_another_size():
    with pytest.raises(ValueError, match=r"weight must be \[C\]"):
        layernorm2d(torch.rand(1, 4, 3, 3), torch.ones(3), torch.zeros(4))
