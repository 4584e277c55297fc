"""convolve: outside a step PyTorch's own bits; in one the gradients of the float64 reference, with fewer passes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from counted import run_bench
from kernel_cases import assert_matches

from rgsud_fast.ops import convolve
from rgsud_fast.ops._backends import requested_backend
from rgsud_fast.ops.convolve import _Convolve

# Channels in and out, taps, size, stride, padding, transposed: odd sizes, pixels that no window reaches, one pixel.
CASES = [
    (5, 7, 3, (9, 11), 1, 1, False),
    (4, 6, 4, (10, 13), 2, 1, False),
    (3, 2, 1, (1, 1), 1, 0, False),
    (6, 4, 2, (5, 7), 2, 0, True),
    (2, 5, 3, (4, 3), 2, 1, True),
]


def arguments(channels, channels_out, taps, size, transposed, dtype=torch.float32):
    around = (channels, channels_out) if transposed else (channels_out, channels)
    shapes = (2, channels, *size), (*around, taps, taps), (channels_out,)
    return [torch.randn(shape, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("channels, channels_out, taps, size, stride, padding, transposed", CASES)
def test_outside_a_step_it_is_pytorchs(channels, channels_out, taps, size, stride, padding, transposed):
    inputs = arguments(channels, channels_out, taps, size, transposed)
    plain = F.conv_transpose2d if transposed else F.conv2d
    for bias in (inputs[2], None):
        got = convolve(*inputs[:2], bias, stride, padding, transposed)
        wanted = plain(*inputs[:2], bias, stride, padding)
        assert torch.equal(got, wanted)
        for one, other in zip(*(torch.autograd.grad(out.sum(), inputs[:2]) for out in (got, wanted)), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("channels, channels_out, taps, size, stride, padding, transposed", CASES)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str)
def test_in_a_step_it_matches_the_float64_reference(
    channels, channels_out, taps, size, stride, padding, transposed, dtype, tolerance
):
    def op(*given):
        layer = convolve if requested_backend() == "reference" else _Convolve.apply  # which a step applies
        return layer(*given, stride, padding, transposed)

    assert_matches(op, "auto", arguments(channels, channels_out, taps, size, transposed, dtype), tolerance)


def test_what_is_frozen_gets_no_gradient():
    x, weight, bias = arguments(3, 4, 3, (6, 5), False)
    for frozen in ({0}, {1, 2}, {0, 1}):
        given = [tensor.detach().requires_grad_(place not in frozen) for place, tensor in enumerate((x, weight, bias))]
        _Convolve.apply(*given, 1, 1, False).sum().backward()
        assert [tensor.grad is None for tensor in given] == [place in frozen for place in range(3)]


PASSES = """
import torch
from counting.fake_gpu import DEVICE, fake_gpu
from counting.kernels import recorded_kernels
from counting.recorder import Recorder
from rgsud_fast.ops import convolve
from rgsud_fast.ops._step_weights import StepWeights

with fake_gpu(), Recorder() as recorder, recorded_kernels(recorder, {}):
    x = torch.empty(2, 8, 16, 16, device=DEVICE, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    weight = torch.empty(8, 8, 4, 4, device=DEVICE).to(memory_format=torch.channels_last)
    weight, bias = torch.nn.Parameter(weight), torch.nn.Parameter(torch.empty(8, device=DEVICE))

    def names(steps):
        weight.grad = bias.grad = None
        recorder.record.calls.clear()
        with steps, torch.autocast("cuda", torch.bfloat16):
            sum(convolve(x, weight, bias, 2, 1).float().sum() for _ in range(2)).backward()
            steps.gather()
        return [call.name for call in recorder.record.calls]

    for steps in (StepWeights(False), StepWeights()):
        for _ in range(3):
            found = names(steps)
        print(found.count("_to_copy") + found.count("copy_"), found.count("convolution"))
"""


@pytest.mark.slow
def test_in_a_step_of_half_precision_no_weight_is_rounded_and_no_gradient_widened_by_itself():
    pytest.importorskip("triton")
    plain, in_step = (tuple(map(int, line.split())) for line in run_bench("-c", PASSES).splitlines())
    assert plain[1] == in_step[1] == 2
    assert in_step[0] < plain[0]
