"""gated_dconv against its float64 reference: windows, gates, bands of rows and shares."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import assert_backward_twice, assert_matches, assert_same_bits, each_kernel, run

from rgsud_fast.ops import _backends as backends
from rgsud_fast.ops import gated_dconv, use_backend
from rgsud_fast.ops.gated_dconv import GATES, dconv, reference

SHAPES = [(1, 2, 1, 1), (2, 4, 7, 13), (1, 6, 16, 33), (2, 2, 11, 5)]


def arguments(shape, taps, device="cpu", dtype=torch.float32):
    wide = torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype
    images, channels = shape[:2]
    made = torch.randn(shape), torch.randn(channels, 1, taps, taps) / taps, torch.randn(channels), torch.randn(images)
    return [value.to(device, dtype if value is made[0] else wide).requires_grad_() for value in made]


def by(gate):
    return lambda x, weight, bias=None, scale=None: gated_dconv(x, weight, bias, gate, scale)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("taps", [3, 5, 7])
def test_matches_reference(taps, gate, shape):
    assert_matches(by(gate), "native", arguments(shape, taps), 1e-5)


# Fewer: an interpreted program takes tens of milliseconds.
@each_kernel("gated_dconv")
@pytest.mark.parametrize(
    "gate, taps, shape",
    [("none", 5, (1, 3, 3, 5)), ("product", 7, (1, 4, 9, 16)), ("gelu", 3, (2, 38, 5, 3)), ("gelu", 3, (1, 2, 1, 1))],
    ids=str,
)
def test_every_kernel_matches_the_reference(device, backend, gate, taps, shape):
    assert_matches(by(gate), backend, arguments(shape, taps, device), 1e-5)


# bfloat16: Triton's interpreter cuts where the GPU rounds, one unit in the last place (2^-7) instead of half of one.
@each_kernel("gated_dconv")
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.bfloat16, 8e-3)], ids=str)
def test_other_precisions(device, backend, dtype, tolerance, gate):
    assert_matches(by(gate), backend, arguments((2, 4, 4, 5), 3, device, dtype), tolerance)


@each_kernel("gated_dconv")
@pytest.mark.parametrize("gate", GATES)
def test_without_bias_and_scale(device, backend, gate):
    assert_matches(by(gate), backend, arguments((2, 4, 5, 6), 3, device)[:2], 1e-5)


@each_kernel("gated_dconv")
def test_a_scale_without_a_gate_and_a_bias_without_a_scale(device, backend):
    x, weight, bias, scale = arguments((2, 3, 5, 6), 3, device)
    assert_matches(lambda x, w, s: gated_dconv(x, w, None, "none", s), backend, [x, weight, scale], 1e-5)
    assert_matches(by("none"), backend, [x, weight, bias], 1e-5)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("taps", [3, 7])
def test_images_of_several_bands_of_rows(gate, taps):
    assert_matches(by(gate), "native", arguments((1, 8, 150, 140), taps), 1e-5)
    assert_matches(
        by(gate), "native", arguments((1, 8, 19, 5000), taps), 1e-5
    )  # a row takes a band of the least height


@pytest.mark.parametrize("gate", GATES)
def test_gradcheck(gate):
    with use_backend("native"):
        assert torch.autograd.gradcheck(by(gate), arguments((2, 2, 3, 4), 3, dtype=torch.float64))


@each_kernel("gated_dconv")
def test_gelu_is_exact_far_from_zero(device, backend):
    x = torch.linspace(-30, 30, 1201, dtype=torch.float64).reshape(1, 1, 1, -1)
    x = torch.cat([x, torch.ones_like(x)], 1)
    weight = torch.zeros(2, 1, 3, 3, dtype=torch.float64)
    weight[:, :, 1, 1] = 1
    for dtype, tolerance in ((torch.float32, 2e-7), (torch.float64, 1e-15)):
        inputs = [x.to(device, dtype).requires_grad_(), weight.to(device, dtype).requires_grad_()]
        wide = [x.to(device).requires_grad_(), weight.to(device).requires_grad_()]
        got, wanted = run(by("gelu"), backend, inputs), run(by("gelu"), "reference", wide)
        for one, other in zip(got[:2], wanted[:2], strict=True):
            error = (one.double() - other).abs() / other.abs().clamp_min(1)
            assert error.max().item() <= tolerance


@each_kernel("gated_dconv")
def test_strided_features(device, backend):
    x, weight, bias, scale = arguments((2, 8, 12, 14), 3, device)
    view = x.detach()[:, ::2, 1:, ::3].requires_grad_()
    some = [value.detach()[::2].requires_grad_() for value in (weight, bias)]
    assert_matches(by("product"), backend, [view, *some, scale], 1e-5)


@each_kernel("gated_dconv")
def test_channels_last_features(device, backend):
    x, *rest = arguments((2, 4, 6, 7), 3, device)
    x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    assert_matches(by("gelu"), backend, [x, *rest], 1e-5)


@each_kernel("gated_dconv")
def test_same_bits_every_run(device, backend):
    assert_same_bits(by("gelu"), backend, arguments((2, 6, 5, 7), 3, device))


@each_kernel("gated_dconv")
def test_backward_runs_twice(device, backend):
    assert_backward_twice(by("product"), backend, arguments((2, 4, 6, 6), 5, device))


def test_threads_change_no_bit():
    inputs = arguments((2, 6, 101, 103), 5)
    v_out = torch.randn(2, 3, 101, 103)
    torch.set_num_threads(2)
    two = run(by("gelu"), "native", inputs, v_out)
    torch.set_num_threads(1)
    for one, other in zip(run(by("gelu"), "native", inputs, v_out), two, strict=True):
        assert torch.equal(one, other)


def test_windows_without_a_kernel_are_pytorch_s():
    inputs = arguments((1, 4, 12, 12), 9)
    with use_backend("native"):
        assert torch.equal(gated_dconv(*inputs[:3]), reference(*inputs[:3]))


def test_dconv_reads_a_layer():
    layer = torch.nn.Conv2d(4, 4, 5, padding=2, groups=4)
    x = torch.randn(2, 4, 9, 9)
    assert torch.allclose(dconv(x, layer), layer(x), atol=1e-6)


def test_the_meta_device_and_fake_tensors_get_shapes():
    from torch._subclasses.fake_tensor import FakeTensorMode

    assert gated_dconv(torch.empty(2, 4, 5, 6, device="meta"), torch.empty(4, 1, 3, 3, device="meta")).shape[1] == 2
    with FakeTensorMode(), use_backend("reference"):
        assert gated_dconv(torch.empty(2, 4, 5, 6), torch.empty(4, 1, 3, 3), gate="none").shape == (2, 4, 5, 6)


def test_a_compiled_graph_and_a_traced_one_hold_pytorch_s_operations(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert backends.choose("gated_dconv", torch.zeros(1)) is backends.COMPILED
    inputs = arguments((1, 4, 8, 8), 3)
    assert torch.equal(gated_dconv(*inputs[:3]), reference(*inputs[:3]))


def test_refuses_what_does_not_fit():
    x, weight, bias, scale = arguments((2, 4, 5, 5), 3)
    with pytest.raises(ValueError, match="gate must be one of none, product, gelu"):
        gated_dconv(x, weight, gate="relu")
    with pytest.raises(ValueError, match="even number of channels"):
        gated_dconv(x[:, :3], weight[:3])
    for wrong in (weight[:2], weight[..., :2], weight[..., :2, :2], weight[0, 0, 0, 0]):
        with pytest.raises(ValueError, match=r"weight must be \[4, 1, K, K\] with K odd"):
            gated_dconv(x, wrong)
    with pytest.raises(ValueError, match=r"bias must be \[4\]"):
        gated_dconv(x, weight, bias[:3])
    with pytest.raises(ValueError, match=r"scale must be \[2\]"):
        gated_dconv(x, weight, bias, scale=scale[:1])
