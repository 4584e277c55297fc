"""conv_bias_lrelu against its float64 reference and PyTorch's own convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from kernel_cases import assert_matches, convolution_arguments, each_kernel, run

from rgsud_fast.ops import _backends as backends
from rgsud_fast.ops import conv_bias_lrelu, residual_block, use_backend
from rgsud_fast.ops._convolutions import use_own

# (channels in, out), window, (height, width): odd sizes, channels that fill no group, rows longer than the registers,
# more channels than a program owns, more pixels than one part of a sum.
CASES = [
    ((6, 16), 7, (13, 19)), ((16, 3), 7, (9, 33)), ((5, 7), 3, (11, 6)), ((4, 8), 1, (5, 70)), ((2, 3), 5, (1, 1)),
    ((70, 130), 1, (3, 5)), ((2, 3), 3, (45, 47)),
]  # fmt: skip


def inner(x, weight, bias):
    return conv_bias_lrelu(x, weight, bias, 0.2)


@each_kernel("conv_bias_lrelu")
@pytest.mark.parametrize("channels, taps, size", CASES, ids=str)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str)
def test_convolution_matches_reference(device, backend, channels, taps, size, dtype, tolerance):
    assert_matches(inner, backend, convolution_arguments(channels, taps, size, device, dtype), tolerance)


@each_kernel("conv_bias_lrelu")
def test_half_precision_is_rounded_once(device, backend):
    x, weight, bias = (tensor.detach() for tensor in convolution_arguments((4, 5), 3, (8, 9), device))
    with use_backend(backend), use_own(True):  # the library rounds twice: test_convolution_choice.py
        got = conv_bias_lrelu(x.bfloat16(), weight, bias, 0.2)
    weight = weight.bfloat16().float() if x.is_cuda else weight  # the GPU's products are of bfloat16
    wanted = F.leaky_relu(F.conv2d(x.bfloat16().float(), weight, bias, padding=1), 0.2)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), wanted, rtol=2**-8, atol=1e-5)


@each_kernel("conv_bias_lrelu")
def test_without_activation_it_is_a_convolution(device, backend):
    x, weight, bias = convolution_arguments((3, 4), 3, (7, 8), device)
    with use_backend(backend):
        torch.testing.assert_close(
            conv_bias_lrelu(x, weight, bias), F.conv2d(x, weight, bias, padding=1), rtol=1e-5, atol=1e-5
        )


@each_kernel("conv_bias_lrelu")
def test_convolution_gradcheck(device, backend):
    with use_backend(backend):
        assert torch.autograd.gradcheck(
            inner, convolution_arguments((2, 3), 3, (4, 5), device, torch.float64), fast_mode=True
        )


@each_kernel("conv_bias_lrelu")
def test_a_gradient_nobody_wants_is_not_made(device, backend, monkeypatch):
    x, weight, bias = convolution_arguments((2, 3), 3, (4, 5), device)
    made = []
    with use_backend(backend):
        kernel = backends.choose("conv_bias_lrelu", x)
        backward = kernel.backward
        monkeypatch.setattr(kernel, "backward", lambda *args, **more: made.append(backward(*args, **more)) or made[-1])
        torch.autograd.grad(inner(x.detach(), weight, bias).sum(), [weight, bias])
        torch.autograd.grad(inner(x, weight, bias).sum(), [x, weight, bias])
    assert [gradients[0] is None for gradients in made] == [True, False]


@each_kernel("conv_bias_lrelu")
def test_convolution_of_strided_features(device, backend):
    x, weight, bias = convolution_arguments((8, 4), 3, (12, 14), device)
    view = x.detach()[:, ::2, 1:, ::3].requires_grad_()
    assert_matches(inner, backend, [view, weight.detach()[:, ::2].requires_grad_(), bias], 1e-5)


@each_kernel("conv_bias_lrelu")
def test_convolution_reads_channels_last_as_it_is_meant(device, backend):
    x, weight, bias = convolution_arguments((5, 4), 3, (6, 7), device)
    last = x.detach().to(memory_format=torch.channels_last).requires_grad_()
    assert_matches(inner, backend, [last, weight, bias], 1e-5)


# On the CPU the op hands its kernels contiguous float32; the GPU's get channels last, and bfloat16.
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=str)
def test_triton_reads_and_writes_channels_last(dtype, tolerance):
    kernel = pytest.importorskip("rgsud_fast.kernels.triton.conv_bias_lrelu")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, weight, bias = (tensor.detach() for tensor in convolution_arguments((5, 6), 3, (7, 9), device))
    x = x.to(dtype).to(memory_format=torch.channels_last)
    weight = weight.to(dtype).float()
    out, sign = kernel.forward(x, weight, bias, 0.2, residual=torch.zeros_like(x[:, :1].expand(-1, 6, -1, -1)))
    wanted = F.leaky_relu(F.conv2d(x.float(), weight, bias, padding=1), 0.2)
    assert out.dtype == dtype and out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(sign > 0, wanted > 0)
    torch.testing.assert_close(out.float(), wanted, rtol=tolerance, atol=tolerance)
    v_out = torch.randn_like(out)
    wide = x.float().requires_grad_()
    parameters = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    before = F.leaky_relu(F.conv2d(wide, *parameters, padding=1), 0.2)
    for got, exact in zip(
        kernel.backward(v_out, x, sign, weight, 0.2),
        torch.autograd.grad(before, [wide, *parameters], v_out.float()),
        strict=True,
    ):
        assert ((got.float() - exact).abs().max() / exact.abs().max()).item() <= tolerance


def test_threads_change_no_bit():
    inputs = convolution_arguments((5, 6), 3, (101, 103))  # 20,806 pixels; a second thread is used from 8,192 on
    torch.set_num_threads(2)
    two = run(inner, "native", inputs)
    torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(run(inner, "native", inputs), two, strict=True))


@pytest.mark.parametrize(
    "weight, bias, slope, message",
    [
        ((3, 5, 3, 3), (3,), 0.2, r"weight must be \[D, 4, K, K\]"),
        ((3, 4, 2, 2), (3,), 0.2, "K odd"),
        ((3, 4, 3, 5), (3,), 0.2, "K odd"),
        ((3, 4, 3, 3), (4,), 0.2, r"bias must be \[3\]"),
        ((3, 4, 3, 3), (3,), 0.0, "slope must be positive"),
        ((3, 4, 3, 3), (3,), float("nan"), "slope must be positive"),
    ],
)
def test_refuses_what_does_not_fit(weight, bias, slope, message):
    with pytest.raises(ValueError, match=message):
        conv_bias_lrelu(torch.rand(1, 4, 5, 5), torch.rand(weight), torch.rand(bias), slope)


@pytest.mark.parametrize("channels, library", [(16, False), (64, True)])
def test_auto_leaves_many_channels_to_pytorch_on_the_cpu(channels, library):
    x, weight, bias = convolution_arguments((channels, channels), 3, (9, 20))
    for op, inputs in ((conv_bias_lrelu, (weight, bias, 0.2)), (residual_block, (weight, bias, weight, bias, 0.2))):
        results = {}
        for backend in ("auto", "native", "reference"):
            with use_backend(backend):
                results[backend] = op(x, *inputs)
        torch.testing.assert_close(results["native"], results["reference"], rtol=1e-4, atol=1e-3)
        assert torch.equal(results["auto"], results["reference" if library else "native"])
