"""nafblock's fused Triton kernels: which block takes them, their numbers, and what is launched beside them."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import assert_matches, run
from test_nafblock import arguments, block
from torch.utils._python_dispatch import TorchDispatchMode

kernel = pytest.importorskip("rgsud_fast.kernels.triton.nafblock")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FREE = {"empty", "new_empty", "empty_like", "empty_strided", "view", "permute", "detach", "alias", "fill_"}
INTERPRETER = {"set_", "copy_"}  # carries every argument to NumPy and back


@pytest.mark.parametrize("channels", [(0, 0), (128, 0), (128, 64)], ids=["library", "fused forward", "fused"])
@pytest.mark.parametrize("shape", [(2, 16, 5, 7), (1, 20, 9, 30)], ids=str)
def test_every_mixture_matches_reference(channels, shape, monkeypatch):
    monkeypatch.setattr(kernel.fused, "FORWARD", channels[0])
    monkeypatch.setattr(kernel.fused, "BACKWARD", channels[1])
    assert_matches(block, "triton", arguments(shape, DEVICE, torch.float64), 1e-12)


# Both against the float64 block of the same rounded numbers. The interpreter cuts bits off, which doubles the error.
def test_bfloat16_is_as_near_as_the_library_s(monkeypatch):
    inputs = arguments((2, 16, 9, 11), DEVICE)
    x, *weights = (tensor.detach() for tensor in inputs)
    x, weights = x.bfloat16(), [0.3 * weight for weight in weights]
    wide = [tensor.double().requires_grad_() for tensor in (x, *weights)]
    v_out = torch.randn(x.shape, device=DEVICE).bfloat16()
    exact = run(block, "reference", wide, v_out)
    x, v_out = (tensor.to(memory_format=torch.channels_last) for tensor in (x, v_out))

    def errors():
        out, *kept = kernel.forward(x, weights, 1e-6)
        found = [out, *kernel.backward(v_out, x, *kept, weights, 1e-6)]
        assert out.dtype == torch.bfloat16 and out.is_contiguous(memory_format=torch.channels_last)
        return [
            ((one.double() - wanted).abs().max() / wanted.abs().max()).item()
            for one, wanted in zip(found, exact, strict=True)
        ]

    fused = errors()
    monkeypatch.setattr(kernel.fused, "FORWARD", 0)
    monkeypatch.setattr(kernel.fused, "BACKWARD", 0)
    library = errors()
    cut = 1 if DEVICE == "cuda" else 2
    assert max(fused) <= cut * max(library)
    assert sum(fused) <= cut * sum(library)


@pytest.mark.parametrize("channels", [(0, 0), (128, 0), (128, 64)], ids=["library", "fused forward", "fused"])
def test_no_sum_over_pixels_is_rounded_before_it_is_added(channels, monkeypatch):
    monkeypatch.setattr(kernel.fused, "FORWARD", channels[0])
    monkeypatch.setattr(kernel.fused, "BACKWARD", channels[1])
    x, *weights = (tensor.detach() for tensor in arguments((1, 16, 4, 4), DEVICE))
    x = x.bfloat16().to(memory_format=torch.channels_last)
    dtypes, real = [], kernel._sums

    def note(w, matrices, tail, head, *more):
        tensors = [*matrices, *tail, *head, *(one for one in more if isinstance(one, torch.Tensor))]
        dtypes.extend(one.dtype for one in tensors)
        return real(w, matrices, tail, head, *more)

    monkeypatch.setattr(kernel, "_sums", note)
    out, *kept = kernel.forward(x, weights, 1e-6)
    kernel.backward(out, x, *kept, weights, 1e-6)
    assert len(dtypes) >= 10 and set(dtypes) == {torch.float32}


def test_forward_is_kernels_and_nothing_beside_them():
    x, *weights = (tensor.detach() for tensor in arguments((1, 16, 4, 4), DEVICE, torch.float64))
    x = x.to(memory_format=torch.channels_last)
    with Operations() as operations:
        kernel.forward(x, weights, 1e-6)
    assert set(operations) <= FREE | INTERPRETER


class Operations(TorchDispatchMode):
    """Names of PyTorch's operations that run."""

    def __enter__(self):
        self.names = []
        super().__enter__()
        return self.names

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **kwargs or {})
