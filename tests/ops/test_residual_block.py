"""residual_block against its float64 reference. Its kernels are those of conv_bias_lrelu."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import assert_backward_twice, assert_matches, assert_same_bits, convolution_arguments, each_kernel

from rgsud_fast.ops import residual_block, use_backend


def block_arguments(channels, taps, size, device="cpu", dtype=torch.float32):
    x, *first = convolution_arguments((channels, channels), taps, size, device, dtype)
    second = [(tensor.detach() * 0.7 + 0.1).requires_grad_() for tensor in first]
    return [x, *first, *second]


@each_kernel("conv_bias_lrelu")
@pytest.mark.parametrize("channels, taps, size", [(16, 3, (9, 33)), (5, 3, (11, 70)), (3, 7, (5, 6))], ids=str)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str)
def test_matches_reference(device, backend, channels, taps, size, dtype, tolerance):
    assert_matches(residual_block, backend, block_arguments(channels, taps, size, device, dtype), tolerance)


@each_kernel("conv_bias_lrelu")
def test_gradcheck(device, backend):
    with use_backend(backend):
        assert torch.autograd.gradcheck(
            residual_block, block_arguments(2, 3, (4, 5), device, torch.float64), fast_mode=True
        )


@each_kernel("conv_bias_lrelu")
def test_gives_the_same_bits_every_run(device, backend):
    assert_same_bits(residual_block, backend, block_arguments(6, 3, (13, 17), device))


@each_kernel("conv_bias_lrelu")
def test_backward_runs_twice(device, backend):
    assert_backward_twice(residual_block, backend, block_arguments(4, 3, (6, 6), device))


def test_refuses_to_change_the_channels():
    x, weight, bias = convolution_arguments((4, 5), 3, (6, 7))
    with pytest.raises(ValueError, match="weight1 must keep the 4 channels"):
        residual_block(x, weight, bias, weight, bias)
