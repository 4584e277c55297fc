"""Weights that a step rounds together, and gradients that it adds together, are those of every layer by itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rgsud_fast.ops import conv_bias_lrelu, residual_block, use_backend
from rgsud_fast.ops._step_weights import StepWeights, in_step, owe, owe_sum, rounded
from rgsud_fast.ops.convolve import _Convolve, convolve

HALF = torch.float16  # the interpreter cuts bfloat16 off
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = [(7, 3, 3, 3), (5000,), (4, 1, 1, 1), (130, 70, 1, 1)]


def parameters(device):
    found = [nn.Parameter(torch.randn(shape, device=device)) for shape in SHAPES]
    found[0].data = found[0].data.to(memory_format=torch.channels_last)
    return found


def test_weights_are_rounded_alike_and_by_factors():
    pytest.importorskip("triton")
    weights, factor = parameters(DEVICE), nn.Parameter(torch.randn(1, 130, 1, 1, device=DEVICE))

    def ask():
        return [rounded(weight, HALF) for weight in weights] + [rounded(weights[3], HALF, factor)]

    step = StepWeights()
    for round_ in range(3):
        with torch.no_grad():
            for weight in weights:
                weight.mul_(1.5)
        alone = ask()
        with step:
            together = ask()
            assert in_step()
        kept = {one.untyped_storage().data_ptr() for one in together}
        assert len(kept) == (1 if round_ else len(together))  # the first step only learns what is asked for
        for one, other, weight in zip(together, alone, [*weights, weights[3]], strict=True):
            assert torch.equal(one, other) and one.stride() == weight.stride()
    assert not in_step()


def test_other_tensors_and_other_dtypes_are_left_alone():
    weight, step = nn.Parameter(torch.randn(4, 4)), StepWeights(on=False)
    with step:
        assert not in_step()
        assert rounded(weight, torch.float32) is weight
        assert torch.equal(owe(weight, weight.detach().bfloat16()), weight.detach().bfloat16().float())
        assert torch.equal(owe_sum(weight, torch.ones(3, 2)), torch.full((2,), 3.0))


def test_gradients_are_added_as_autograd_adds_them():
    first, second, bias = (nn.Parameter(torch.zeros(shape)) for shape in ((4, 3, 3, 3), (4, 5, 1, 1), (6,)))
    first.data = first.data.to(memory_format=torch.channels_last)
    frozen = nn.Parameter(torch.zeros(2), requires_grad=False)
    grads = {weight: [torch.randn(weight.shape).bfloat16() for _ in range(3)] for weight in (first, second)}
    parts = [torch.randn(9, 6), torch.randn(9, 6), torch.randn(4, 6)]
    with StepWeights() as step:
        for weight, some in grads.items():
            assert all(owe(weight, grad) is None for grad in some)
        assert all(owe_sum(bias, some) is None for some in parts)
        assert owe(frozen, torch.ones(2)) is None and owe(first, None) is None
        step.gather()
        assert frozen.grad is None
        for weight, some in grads.items():
            assert torch.equal(weight.grad, some[0].float() + some[1].float() + some[2].float())
            assert weight.grad.stride() == weight.stride()
        torch.testing.assert_close(bias.grad, sum(some.sum(0) for some in parts), rtol=1e-6, atol=1e-6)
        before = first.grad.clone()
        owe(first, grads[first][0])
        step.gather()
        assert torch.equal(first.grad, before + grads[first][0].float())
        owe(first, grads[first][0])
    with step:
        first.grad = None
        step.gather()
        assert first.grad is None  # what a broken step owed is forgotten


def test_layers_owe_what_they_would_return():
    pytest.importorskip("triton")
    torch.manual_seed(0)
    image = torch.randn(2, 4, 6, 7, device=DEVICE, requires_grad=True)
    shapes = [(4, 4, 3, 3), (4,), (4, 4, 3, 3), (4,), (5, 4, 2, 2), (5,), (5, 4, 2, 2)]
    weights = [nn.Parameter(torch.randn(shape, device=DEVICE)) for shape in shapes]

    def loss(strided):
        x = residual_block(conv_bias_lrelu(image, *weights[:2], 0.2), *weights[:4])
        x = strided(strided(x, weights[4], weights[5], 2, 1, False), weights[6], None, 2, 0, True)
        return x.square().sum()

    with use_backend("triton"):
        wanted = torch.autograd.grad(loss(convolve), [image, *weights])
        with StepWeights() as step:
            loss(_Convolve.apply).backward()
            assert all(weight.grad is None for weight in weights)
            step.gather()
    for tensor, grad in zip([image, *weights], wanted, strict=True):
        torch.testing.assert_close(tensor.grad, grad, rtol=1e-4, atol=1e-3)
