"""nafblock against its float64 reference."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import assert_backward_twice, assert_matches, assert_same_bits, each_kernel, run

from rgsud_fast.ops import NafWeights, nafblock, use_backend
from rgsud_fast.ops._native.nafblock import MOST_CHANNELS


def block(x, *weights):
    return nafblock(x, NafWeights(*weights))


def arguments(shape, device="cpu", dtype=torch.float32):
    torch.manual_seed(0)
    c = shape[1]
    shapes = NafWeights(
        (c,), (c,), (2 * c, c, 1, 1), (2 * c,), (2 * c, 1, 3, 3), (2 * c,), (c, c, 1, 1), (c,), (c, c, 1, 1), (c,),
        (c,), (c,), (2 * c, c, 1, 1), (2 * c,), (c, c, 1, 1), (c,), (1, c, 1, 1), (1, c, 1, 1),
    )  # fmt: skip
    return [torch.randn(size, dtype=torch.float64).to(device, dtype).requires_grad_() for size in (shape, *shapes)]


# Rows longer than a block of 128 pixels, many short rows in one, one pixel, more than one band and chunk.
@each_kernel("nafblock")
@pytest.mark.parametrize("shape", [(2, 5, 13, 19), (2, 3, 5, 150), (1, 3, 1, 1), (1, 6, 33, 41)], ids=str)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-5), (torch.float64, 1e-12)], ids=str)
def test_matches_reference(device, backend, shape, dtype, tolerance):
    assert_matches(block, backend, arguments(shape, device, dtype), tolerance)


@each_kernel("nafblock")
def test_wider_blocks_match_reference_too(device, backend):
    inputs = arguments((1, MOST_CHANNELS + 1, 4, 5), device, torch.float64)
    assert_matches(block, backend, inputs, 1e-12)


@each_kernel("nafblock")
def test_one_channel(device, backend):
    # Its normalisation gives 0 whatever x is, so most gradients are 0 but for rounding: an absolute tolerance.
    inputs = arguments((2, 1, 5, 6), device, torch.float64)
    for got, wanted in zip(run(block, backend, inputs), run(block, "reference", inputs), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


@each_kernel("nafblock")
def test_gradcheck(device, backend):
    with use_backend(backend):
        assert torch.autograd.gradcheck(block, arguments((1, 2, 3, 4), device, torch.float64), fast_mode=True)


@each_kernel("nafblock")
def test_strided_features(device, backend):
    weights = arguments((2, 4, 12, 14), device)[1:]
    view = torch.randn(2, 8, 13, 42, device=device)[:, ::2, 1:, ::3].requires_grad_()
    assert_matches(block, backend, [view, *weights], 2e-5)


@each_kernel("nafblock")
def test_same_bits_every_run(device, backend):
    assert_same_bits(block, backend, arguments((2, 6, 13, 17), device))


@each_kernel("nafblock")
def test_backward_runs_twice(device, backend):
    assert_backward_twice(block, backend, arguments((1, 4, 6, 6), device))


def test_threads_change_no_bit():
    inputs = arguments((2, 5, 101, 103))  # 20,806 pixels; a second thread is used from 8,192 on
    torch.set_num_threads(2)
    two = run(block, "native", inputs)
    torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(run(block, "native", inputs), two, strict=True))


def test_half_precision_keeps_its_dtype():
    x, *weights = (tensor.detach() for tensor in arguments((1, 4, 6, 6)))
    got = block(x.bfloat16(), *weights)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), block(x.bfloat16().float(), *weights), rtol=2**-7, atol=1e-2)


@pytest.mark.parametrize("name", NafWeights._fields)
def test_refuses_a_weight_of_another_shape(name):
    x, *weights = (tensor.detach() for tensor in arguments((1, 4, 6, 6)))
    wrong = NafWeights(*weights)._replace(**{name: torch.rand(3)})
    with pytest.raises(ValueError, match=f"{name} must be"):
        nafblock(x, wrong)
