"""pixel_shuffle_skip against its float64 reference."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from kernel_cases import assert_backward_twice, assert_matches, assert_same_bits, each_kernel

from rgsud_fast.ops import pixel_shuffle_skip, use_backend


def arguments(shape, device="cpu", dtype=torch.float32):
    images, channels, height, width = shape
    sizes = (images, 4 * channels, height, width), (images, channels, 2 * height, 2 * width)
    return [torch.randn(size, dtype=torch.float64).to(device, dtype).requires_grad_() for size in sizes]


# One pixel, odd sizes, several blocks of pixels and of channels.
@each_kernel("pixel_shuffle_skip")
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 7), (1, 70, 3, 4), (2, 2, 11, 33)], ids=str)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-15)], ids=str)
def test_matches_reference(device, backend, shape, dtype, tolerance):
    assert_matches(pixel_shuffle_skip, backend, arguments(shape, device, dtype), tolerance)


@each_kernel("pixel_shuffle_skip")
@pytest.mark.parametrize("which", [0, 1], ids=["x", "skip"])
def test_strided_features_and_one_gradient_alone(device, backend, which):
    inputs = [tensor.detach() for tensor in arguments((2, 4, 6, 5), device)]
    inputs[which] = torch.randn(2, 40, 13, 30, device=device)[:, : 32 >> which : 2, 1:, ::3]
    inputs[which] = inputs[which][:, : (16, 4)[which], : (6, 12)[which], : (5, 10)[which]].requires_grad_()
    assert_matches(pixel_shuffle_skip, backend, inputs, 1e-6)


@each_kernel("pixel_shuffle_skip")
def test_same_bits_every_run_and_backward_twice(device, backend):
    assert_same_bits(pixel_shuffle_skip, backend, arguments((2, 6, 3, 7), device))
    assert_backward_twice(pixel_shuffle_skip, backend, arguments((1, 4, 3, 3), device))


def test_the_layout_of_channels_last_stays():
    kernel = pytest.importorskip("rgsud_fast.kernels.triton.pixel_shuffle_skip")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, skip = (tensor.detach().to(memory_format=torch.channels_last) for tensor in arguments((2, 5, 3, 4), device))
    out = kernel.forward(x, skip)
    v_x = kernel.backward(out)
    assert out.is_contiguous(memory_format=torch.channels_last) and v_x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(v_x, F.pixel_unshuffle(out, 2))


@pytest.mark.parametrize("backend", ["auto", "native", "reference"])
def test_on_the_cpu_it_is_pytorch_s_own(backend):
    x, skip = arguments((2, 3, 5, 7))
    with use_backend(backend):
        assert torch.equal(pixel_shuffle_skip(x, skip), F.pixel_shuffle(x, 2) + skip)


@pytest.mark.parametrize(
    "x, skip", [((1, 6, 2, 2), (1, 1, 4, 4)), ((1, 8, 2, 2), (1, 2, 4, 5)), ((1, 8, 2, 2), (2, 2, 4, 4))]
)
def test_refuses_what_does_not_fit(x, skip):
    with pytest.raises(ValueError, match=r"skip must be \[N, C, 2H, 2W\] of x"):
        pixel_shuffle_skip(torch.rand(x), torch.rand(skip))
