"""Which convolution runs on a GPU: the library's, unless a table of this very GPU says that our own is faster."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from kernel_cases import assert_matches, convolution_arguments
from torch._subclasses.fake_tensor import FakeTensorMode

from rgsud_fast.errors import UserError
from rgsud_fast.ops import _convolutions as convolutions
from rgsud_fast.ops import conv_bias_lrelu, residual_block
from rgsud_fast.ops._convolutions import PARTS, use_own

kernel = pytest.importorskip("rgsud_fast.kernels.triton.conv_bias_lrelu")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = [
    ((6, 16), 7, (5, 19)),
    ((16, 3), 7, (9, 12)),
    ((5, 7), 3, (11, 6)),
    ((4, 8), 1, (5, 70)),
    ((70, 130), 1, (3, 5)),
]


def features(dtype=torch.bfloat16, batch=2):
    """Features on a GPU that is not there, and weights."""
    with FakeTensorMode():
        return torch.empty(batch, 64, 16, 16, device="cuda", dtype=dtype), torch.empty(32, 64, 3, 3, device="cuda")


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Write a table and let it be the one in force; the GPU is called Tesla."""

    def write(text):
        path = tmp_path / "convolutions.json"
        path.write_text(text if isinstance(text, str) else json.dumps(text))
        monkeypatch.setenv("RGSUD_CONVOLUTIONS", str(path))
        convolutions.read_table.cache_clear()

    monkeypatch.setenv("RGSUD_CONVOLUTIONS", str(tmp_path / "none.json"))
    monkeypatch.setattr(convolutions, "_device_name", lambda device: "Tesla")
    yield write
    convolutions.read_table.cache_clear()


def row(part, x, weight, own):
    return convolutions.case_of(part, x, weight)._asdict() | {"library_us": 10.0, "own_us": own}


def test_without_a_table_every_convolution_is_the_library_s(table, monkeypatch):
    monkeypatch.setattr(convolutions, "_device_name", lambda device: pytest.fail("asked for the device"))
    assert not any(convolutions.takes_own(part, *features()) for part in PARTS)


def test_ours_runs_where_it_was_the_faster_one_on_this_gpu(table):
    x, weight = features()
    table({"Tesla": [row("forward", x, weight, 9.0), row("at_x", x, weight, 11.0)]})
    assert [convolutions.takes_own(part, x, weight) for part in PARTS] == [True, False, False]
    assert not convolutions.takes_own("forward", *features(batch=1))
    assert not convolutions.takes_own("forward", *features(torch.float32))
    table({"another": [row("forward", x, weight, 9.0)]})
    assert not convolutions.takes_own("forward", x, weight)


@pytest.mark.parametrize("text", ["{", "[1]", '{"Tesla": [{"part": "forward"}]}', '{"Tesla": 3}'])
def test_a_broken_table_is_named(table, text):
    table(text)
    with pytest.raises(UserError, match=r"convolutions\.json is no table of convolutions"):
        convolutions.takes_own("forward", *features())


@pytest.mark.parametrize("own", [False, True], ids=["library", "own"])
@pytest.mark.parametrize("channels, taps, size", SHAPES, ids=str)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str)
def test_either_matches_reference(own, channels, taps, size, dtype, tolerance):
    inputs = convolution_arguments(channels, taps, size, DEVICE, dtype)
    with use_own(own):
        assert_matches(lambda *args: conv_bias_lrelu(*args, 0.2), "triton", inputs, tolerance)
        assert_matches(conv_bias_lrelu, "triton", inputs, tolerance)


@pytest.mark.parametrize("mine", [(), PARTS, *((part,) for part in PARTS)], ids=str)
def test_the_parts_of_a_block_go_together(mine, monkeypatch):
    monkeypatch.setattr(kernel, "takes_own", lambda part, x, weight: part in mine)
    x, *first = convolution_arguments((5, 5), 3, (9, 14), DEVICE, torch.float64)
    assert_matches(residual_block, "triton", [x, *first, *(tensor.detach() * 0.7 for tensor in first)], 1e-12)


def test_the_library_s_convolution_is_one_call_forward_and_one_backward(monkeypatch):
    for name in ("forward", "at_x", "at_weight"):
        monkeypatch.setattr(kernel.implicit_gemm, name, lambda *args: pytest.fail("our own ran"))
    x, weight, bias = (tensor.detach() for tensor in convolution_arguments((4, 5), 3, (8, 9), DEVICE))
    with Calls() as calls:
        out, sign = kernel.forward(x, weight, bias, 0.2)
        kernel.backward(out, x, sign, weight, 0.2)
    assert calls.count("convolution") == calls.count("convolution_backward") == 1


class Calls(torch.utils._python_dispatch.TorchDispatchMode):
    """Names of the operations that run."""

    def __enter__(self):
        self.names = []
        super().__enter__()
        return self.names

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **kwargs or {})


# Twice rounded: by the library and after the pass. A rounding is at most 2^-8 of the value; the interpreter's, which
# cuts the bits off, 2^-7.
def test_bfloat16_is_rounded_twice_by_the_library():
    x, weight, bias = (tensor.detach() for tensor in convolution_arguments((4, 5), 3, (8, 9), DEVICE))
    x, weight = x.bfloat16().to(memory_format=torch.channels_last), weight.bfloat16().float()
    residual = torch.randn(2, 5, 8, 9, device=DEVICE).bfloat16()
    plain = F.conv2d(x.float(), weight, None, padding=1)
    wanted = F.leaky_relu(plain + bias[:, None, None], 0.2) + residual.float()
    with use_own(False):
        out, sign = kernel.forward(x, weight, bias, 0.2, residual)
    last = 2**-8 if out.is_cuda else 2**-7
    assert out.dtype == torch.bfloat16 and out.is_contiguous(memory_format=torch.channels_last)
    assert ((out.float() - wanted).abs() <= 2**-8 * plain.abs() + last * wanted.abs() + 1e-5).all()
    sure = (plain + bias[:, None, None]).abs() > 2**-7 * plain.abs()
    assert torch.equal((sign > 0)[sure], (plain + bias[:, None, None] > 0)[sure])


def test_without_activation_the_gradient_is_not_written_again():
    v_out = torch.randn(2, 5, 8, 9, device=DEVICE).to(memory_format=torch.channels_last)
    v_before, parts = kernel._through_activation(v_out, v_out, 1.0, torch.float32)
    assert v_before.data_ptr() == v_out.data_ptr()
    torch.testing.assert_close(parts.sum(0), v_out.sum((0, 2, 3)), rtol=1e-5, atol=1e-5)


def test_the_parts_of_the_weights_gradient_take_few_bytes(monkeypatch):
    taken = []
    new_empty = torch.Tensor.new_empty
    monkeypatch.setattr(
        torch.Tensor, "new_empty", lambda *args, **more: taken.append(args[1:]) or new_empty(*args, **more)
    )
    monkeypatch.setattr(kernel.implicit_gemm, "correlate_kernel", Unlaunched())
    x, weight = torch.zeros(16, 256, 32, 32), torch.zeros(256, 256, 3, 3)
    kernel.implicit_gemm.at_weight(x, None, x, weight, 1.0)
    ((parts, rows, channels),) = taken
    assert parts > 1 and 4 * parts * rows * channels <= min(16 << 20, 2 * x.nbytes // 4)


class Unlaunched:
    def __getitem__(self, grid):
        return lambda *args, **more: None
