"""The products of attention over channels have the values and gradients of their formula, in either layout."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from rgsud_fast.networks.derainers import channel_gram as module
from rgsud_fast.networks.derainers.channel_gram import channel_gram, mix
from rgsud_fast.networks.derainers.transformer import channel_scores
from rgsud_fast.ops import use_backend

SHAPES = [(2, 3, 4, 5, 7), (1, 1, 6, 8, 8), (3, 2, 5, 4, 16), (2, 2, 1, 1, 1), (1, 4, 2, 3, 1)]  # N, heads, c, H, W
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def drawn(shape: tuple[int, ...], layout: torch.memory_format = torch.contiguous_format, dtype=torch.float64) -> list:
    """q, k and v below each other, temperatures and the weight of a 1x1; each asks for a gradient."""
    n, heads, c, height, width = shape
    qkv = torch.randn(n, 3 * heads * c, height, width, dtype=torch.float64)
    inputs = [qkv, torch.rand(heads, 1, 1, dtype=torch.float64) + 0.5, torch.randn(heads * c, heads * c, 1, 1).double()]
    inputs[0] = inputs[0].to(memory_format=layout)
    return [tensor.to(dtype).requires_grad_() for tensor in inputs]


def attend(qkv: Tensor, temperature: Tensor, weight: Tensor) -> Tensor:
    scores, v = channel_scores(qkv, temperature)
    return mix(scores.softmax(-1), v, weight)


def formula(qkv: Tensor, temperature: Tensor, weight: Tensor) -> Tensor:
    """By PyTorch's own normalisation."""
    q, k, v = (part.unflatten(1, (len(temperature), -1)).flatten(3) for part in qkv.chunk(3, 1))
    scores = temperature * F.normalize(q, dim=-1, eps=1e-12) @ F.normalize(k, dim=-1, eps=1e-12).transpose(-2, -1)
    return F.conv2d((scores.softmax(-1) @ v).flatten(1, 2).unflatten(2, qkv.shape[2:]), weight)


def both(inputs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """What `attend` and what the formula make, with gradients."""
    v_out = torch.randn(inputs[0].shape[0], inputs[0].shape[1] // 3, *inputs[0].shape[2:], dtype=inputs[0].dtype)
    made = attend(*inputs), formula(*inputs)
    return tuple([out.detach(), *torch.autograd.grad(out, inputs, v_out)] for out in made)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_are_the_formulas(shape, layout):
    for made, wanted in zip(*both(drawn(shape, layout)), strict=True):
        torch.testing.assert_close(made, wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_channels_of_no_length_and_of_hardly_any_are_guarded_as_normalize_guards_them(layout):
    inputs = drawn((2, 2, 3, 4, 6), layout)
    with torch.no_grad():
        inputs[0][:, 0] = 0  # of q
        inputs[0][1, 7] = 0  # of k
        inputs[0][:, 1] *= 1e-14  # |q| below the 1e-12 that it is taken for
        inputs[0][0, 8] *= 1e-14
    for made, wanted in zip(*both(inputs), strict=True):
        assert torch.isfinite(made).all()
        scale = float(wanted.abs().max())  # of nearly no length the slope is up to 1e12
        torch.testing.assert_close(made, wanted, rtol=1e-9, atol=1e-14 * max(scale, 1.0))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_gradients_are_differences(layout):
    inputs = drawn((2, 2, 2, 3, 2), layout)
    assert torch.autograd.gradcheck(lambda qkv: channel_gram(qkv, 2), inputs[:1])
    assert torch.autograd.gradcheck(attend, inputs)


def test_sums_over_pixels_in_parts_are_the_sums(monkeypatch):
    monkeypatch.setattr(module, "_FILL", 1)
    assert module._parts(8 * 12, 8) == 8 and module._parts(7 * 5, 8) == 1
    for made, wanted in zip(*both(drawn((2, 2, 2, 8, 12), torch.channels_last)), strict=True):
        torch.testing.assert_close(made, wanted, rtol=1e-12, atol=1e-13)


def test_parts_divide_the_pixels_and_leave_each_enough():
    for pixels, channels in ((65536, 96), (65536, 192), (1024, 768), (300 * 452, 96), (35, 8)):
        parts = module._parts(pixels, channels)
        assert pixels % parts == 0 and (parts == 1 or pixels // parts >= 32 * channels)
    assert module._parts(65536, 96) == 16


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_half_precision_is_summed_in_float32_and_keeps_its_dtype_and_layout(layout):
    qkv = drawn((1, 2, 4, 32, 32), layout, torch.bfloat16)[0]
    dots, q_norms, k_norms, v = channel_gram(qkv, 2)
    wide = qkv.detach().double()
    q, k = (part.unflatten(1, (2, -1)).flatten(3) for part in wide.chunk(3, 1)[:2])
    torch.testing.assert_close(dots, (q @ k.transpose(-2, -1)).float(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(q_norms, q.norm(dim=-1).float(), rtol=1e-6, atol=0)
    torch.testing.assert_close(k_norms, k.norm(dim=-1).float(), rtol=1e-6, atol=0)
    assert v.dtype == torch.bfloat16 and torch.equal(v, qkv[:, 16:])
    out = mix(dots.softmax(-1), v, torch.eye(8)[:, :, None, None])
    assert out.dtype == torch.bfloat16 and out.is_contiguous(memory_format=layout)
    out.sum().backward()
    assert qkv.grad.dtype == torch.bfloat16 and qkv.grad.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("side", [4, 1])  # of one pixel channels lie first and last
def test_sums_of_bfloat16_are_float32_on_a_gpu_in_either_layout(side, layout):
    with FakeTensorMode(), torch.no_grad():
        qkv = torch.ones(2, 24, side, side, device="cuda", dtype=torch.bfloat16).to(memory_format=layout)
        assert [x.dtype for x in channel_gram(qkv, 2)] == [torch.float32] * 3 + [torch.bfloat16]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_no_copy_of_q_k_or_v_is_kept(layout):
    inputs = drawn((2, 2, 4, 16, 16), layout)
    kept = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        attend(*inputs)
    large = {at: size for at, size in kept.items() if size > inputs[0].nbytes // 8}
    assert large == {inputs[0].untyped_storage().data_ptr(): inputs[0].nbytes}


def test_the_reference_backend_is_the_definition(monkeypatch):
    inputs = drawn((2, 2, 3, 5, 4))
    wanted = attend(*inputs)
    monkeypatch.setattr(module._ChannelGram, "apply", None)
    with use_backend("reference"):
        torch.testing.assert_close(attend(*inputs), wanted, rtol=1e-12, atol=1e-13)


def test_what_is_neither_layout_is_made_one():
    inputs = drawn((2, 1, 4, 6, 6))
    whole = torch.randn(2, 12, 6, 12, dtype=torch.float64)[..., ::2].requires_grad_()
    made, wanted = both([whole, *inputs[1:]])
    for a, b in zip(made, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_gradients_by_products_of_bfloat16_are_near(monkeypatch):
    x = (torch.randn(2, 36, 16, 16) + torch.randn(2, 1, 16, 16)).bfloat16()  # channels that are somewhat alike

    def gradient(qkv: Tensor) -> Tensor:
        qkv = qkv.contiguous(memory_format=torch.channels_last).requires_grad_()
        channel_scores(qkv, torch.full((2, 1, 1), 4.0))[0].softmax(-1).square().sum().backward()
        return qkv.grad[:, :24].double()

    def bmm(a: Tensor, b: Tensor, out_dtype: torch.dtype | None = None, out: Tensor | None = None) -> Tensor:
        made = a.float().matmul(b.float())  # as GPUs add them
        return made if out is None else out.copy_(made)

    wanted = gradient(x.double())
    monkeypatch.setattr(module, "_operand", lambda qkv: qkv)
    monkeypatch.setattr(torch, "bmm", bmm)
    assert (gradient(x) - wanted).norm() < 0.01 * wanted.norm()
