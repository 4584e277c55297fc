"""instance_norm_lrelu against its float64 reference."""

from __future__ import annotations

import math

import pytest
import torch
from kernel_cases import assert_backward_twice, assert_matches, assert_same_bits, each_kernel

from rgsud_fast.ops import instance_norm_lrelu, use_backend


def features(shape, device="cpu", dtype=torch.float32):
    return (torch.randn(shape, dtype=torch.float64) * 2 + 0.5).to(device, dtype).requires_grad_()


# A short row, one and several blocks of pixels and of channels, one piece and several of 256 pixels and of 512.
@each_kernel("instance_norm_lrelu")
@pytest.mark.parametrize("shape", [(1, 3, 1, 7), (2, 5, 7, 13), (1, 70, 16, 33), (2, 2, 130, 131)], ids=str)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str)
def test_matches_reference(device, backend, shape, dtype, tolerance):
    assert_matches(instance_norm_lrelu, backend, [features(shape, device, dtype)], tolerance)


def test_the_gpu_reads_with_hundreds_of_programs(monkeypatch):
    kernel = pytest.importorskip("rgsud_fast.kernels.triton.instance_norm_lrelu")
    grids = []

    class Launch:
        def __getitem__(self, grid):
            grids.append(grid)
            return lambda *args, **constants: None

    for name in ("statistics_kernel", "apply_kernel", "sums_kernel", "gradient_kernel"):
        monkeypatch.setattr(kernel, name, Launch())
    x = torch.zeros(8, 128, 64, 64)  # of the discriminator's second layer
    kernel.backward(x, x, kernel.forward(x, 0.2, 1e-5)[1], 0.2, 1e-5)
    assert [math.prod(grid) for grid in grids] == [8 * 16 * 2] * 4


@each_kernel("instance_norm_lrelu")
def test_gradcheck(device, backend):
    with use_backend(backend):
        assert torch.autograd.gradcheck(instance_norm_lrelu, [features((1, 2, 3, 4), device, torch.float64)])


@each_kernel("instance_norm_lrelu")
def test_large_mean_does_not_drown_the_variance(device, backend):
    x = (features((1, 2, 20, 20), device).detach() + 1000).requires_grad_()
    assert_matches(instance_norm_lrelu, backend, [x], 1e-3)


@each_kernel("instance_norm_lrelu")
def test_strided_and_channels_last_features(device, backend):
    x = features((2, 6, 12, 14), device).detach()
    assert_matches(instance_norm_lrelu, backend, [x[:, ::2, 1:, ::3].requires_grad_()], 1e-5)
    last = x.to(memory_format=torch.channels_last).requires_grad_()
    assert_matches(instance_norm_lrelu, backend, [last], 1e-5)


@each_kernel("instance_norm_lrelu")
def test_same_bits_every_run(device, backend):
    assert_same_bits(instance_norm_lrelu, backend, [features((2, 6, 13, 17), device)])


@each_kernel("instance_norm_lrelu")
def test_backward_runs_twice(device, backend):
    assert_backward_twice(instance_norm_lrelu, backend, [features((1, 4, 6, 6), device)])


def test_refuses_a_single_pixel():
    with pytest.raises(ValueError, match="more than one pixel"):
        instance_norm_lrelu(torch.rand(1, 3, 1, 1))
