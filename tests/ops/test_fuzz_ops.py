"""The public ops under arguments of every wrong kind: they compute, or refuse by a documented exception."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from fuzzing import REFUSED, try_cases
from hypothesis import strategies as st
from torch import Tensor

from rgsud_fast import ops
from rgsud_fast.ops import _backends as backends
from rgsud_fast.ops import use_backend
from rgsud_fast.ops.nss_features import MATLAB, OPENCV, YIQ

SIDES = (1, 2, 3, 7, 8, 11, 15, 16, 17, 33)
EXTREMES = (-(2**63), -(2**31), -1, 1, 10**6, 2**31, 2**62 - 1, 2**62, 2**63 - 1)
NUMBERS = (0, -1, 1, 0.5, float("nan"), float("inf"), -float("inf"), 1e300, 10**400, 2**70, True, None, "0.2", [1])
WHOLES = (*NUMBERS, 2, 5, 6, 2**20, 2**40)
FORMS = (MATLAB, YIQ, OPENCV, None, "matlab", MATLAB._replace(constant=0.0), MATLAB._replace(gain=float("nan")))
DTYPES = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64)


class Size(NamedTuple):
    images: int
    channels: int
    height: int
    width: int


def windows_of(size: Size) -> Tensor:
    """Two crops of the images of `pixels_of`, one mirrored; not all inside their image."""
    area = 3 * size.height * size.width
    return torch.tensor([[0, size.height, size.width, 0, 1, 0], [area, size.height, size.width, 2, 0, 1]])


def pixels_of(size: Size, kept: int | None = None) -> Tensor:
    shape = (2 * 3 * size.height * size.width,)
    return torch.randint(0, 256, shape if kept is None else (kept, *shape), dtype=torch.uint8)


def image_of(size: Size, channels: int | None = None) -> Tensor:
    return torch.rand(size.images, channels or size.channels, size.height, size.width)


def convolution(size: Size, taps: int) -> list[Any]:
    return [torch.randn(size.channels, size.channels, taps, taps), torch.randn(size.channels)]


def naf_weights(size: Size) -> list[Tensor]:
    c = size.channels
    shapes = [(c,), (c,), (2 * c, c, 1, 1), (2 * c,), (2 * c, 1, 3, 3), (2 * c,), (c, c, 1, 1), (c,), (c, c, 1, 1)]
    shapes += [(c,), (c,), (c,), (2 * c, c, 1, 1), (2 * c,), (c, c, 1, 1), (c,), (1, c, 1, 1), (1, c, 1, 1)]
    return [torch.randn(shape) for shape in shapes]


def nafblock(x: Tensor, *weights: Tensor) -> Tensor:
    return ops.nafblock(x, ops.NafWeights(*weights))


def dconv_arguments(size: Size) -> list[Any]:
    taps, channels = 1 + 2 * (size.height % 5), 2 * size.channels
    gate = ("none", "product", "gelu")[size.width % 3]
    weight, bias, scale = torch.randn(channels, 1, taps, taps), torch.randn(channels), torch.randn(size.images)
    return [image_of(size, channels), weight, bias, gate, scale]


def rain_residual(*images: Tensor) -> Tensor:
    return ops.rain_residual(images[:3], images[3:])


def upsampled(size: Size) -> Tensor:
    return image_of(Size(size.images, size.channels, 2 * size.height, 2 * size.width))


# Of each op: what is called, and valid arguments of that size.
CALLS: dict[str, tuple[Callable[..., Any], Callable[[Size], list[Any]]]] = {
    "high_pass": (ops.high_pass, lambda s: [image_of(s)]),
    "with_high_pass": (ops.with_high_pass, lambda s: [image_of(s)]),
    "ssim": (ops.ssim, lambda s: [image_of(s), image_of(s)]),
    "derain_loss": (ops.derain_loss, lambda s: [image_of(s), image_of(s)]),
    "rain_residual": (rain_residual, lambda s: [image_of(s, 3) for _ in range(6)]),
    "layernorm2d": (ops.layernorm2d, lambda s: [image_of(s), torch.rand(s.channels), torch.rand(s.channels), 1e-6]),
    "conv_bias_lrelu": (ops.conv_bias_lrelu, lambda s: [image_of(s), *convolution(s, 1 + 2 * (s.height % 4)), 0.2]),
    "residual_block": (ops.residual_block, lambda s: [image_of(s), *convolution(s, 3), *convolution(s, 3), 0.2]),
    "instance_norm_lrelu": (ops.instance_norm_lrelu, lambda s: [image_of(s), 0.2, 1e-5]),
    "pixel_shuffle_skip": (ops.pixel_shuffle_skip, lambda s: [image_of(s, 4 * s.channels), upsampled(s)]),
    "nafblock": (nafblock, lambda s: [image_of(s), *naf_weights(s)]),
    "gated_dconv": (ops.gated_dconv, dconv_arguments),
    "nss_features": (ops.nss_features, lambda s: [image_of(s, 3), 2 * s.channels, MATLAB]),
    "nss_features, whole": (ops.nss_features, lambda s: [image_of(s, 3), None, OPENCV]),
    "clip_preprocess": (ops.clip_preprocess, lambda s: [image_of(s, 3), 7]),
    "take_crops": (
        ops.take_crops,
        lambda s: [pixels_of(s), windows_of(s), s.width, pixels_of(s, 2), torch.rand(2, 2)],
    ),
    "pool_update": (
        ops.pool_update,
        lambda s: [
            *(pixels_of(s, 2), torch.full((3, 2), -torch.inf), image_of(s, 3)),
            *(torch.rand(s.images), torch.zeros(s.images, 2, dtype=torch.int64), 0.0),
        ],
    ),
}


def strided(x: Tensor) -> Tensor:
    """The same numbers, every second of a larger memory, from an odd place on."""
    memory = torch.zeros(2 * x.numel() + 3, dtype=x.dtype)
    return memory[3:].as_strided(x.shape, [2 * stride for stride in torch.empty(x.shape).stride()]).copy_(x)


def filled(value: float) -> Callable[[Tensor], Tensor]:
    def fill(x: Tensor) -> Tensor:
        x = x.clone()
        x.view(-1)[x.numel() // 2] = value
        return x

    return fill


def widened(count: int) -> Callable[[Tensor], Tensor]:
    """One element seen at so many places along the last side, or along the first."""
    return lambda x: x[..., :1].expand(*x.shape[:-1], count) if count % 2 else x[:1].expand(count, *x.shape[1:])


FLOAT_VALUES = (float("nan"), float("inf"), -float("inf"), 1e38, 1e-42, -5.0)
TENSOR_CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "None": lambda x: None,
    "list": lambda x: x.tolist(),
    "array": lambda x: x.numpy(),
    "text": lambda x: "x",
    "scalar": lambda x: x.flatten()[0],
    "one side less": lambda x: x[0],
    "one side more": lambda x: x[None],
    "empty": lambda x: x[:0],
    "empty inside": lambda x: x[..., :0],
    "shorter": lambda x: x[..., :-1],
    "longer": lambda x: torch.cat([x, x[..., :1]], -1),
    "more of them": lambda x: torch.cat([x, x]),
    "meta": lambda x: x.to("meta"),
    "large meta": lambda x: torch.empty((2**16, 3, 2**14, 2**14)[: max(x.dim(), 1)], dtype=x.dtype, device="meta"),
    "sparse": lambda x: x.to_sparse(),
    "nested": lambda x: torch.nested.nested_tensor([x, x]),
    "strided": strided,
    "turned": lambda x: x.transpose(0, -1).contiguous().transpose(0, -1),
    "one for all": lambda x: x[:1].expand_as(x),
    "one pixel for all": lambda x: (
        x.flatten()[:1].expand(x.numel()).view(x.shape) if x.dim() < 2 else x[..., :1, :1].expand_as(x)
    ),
    "overlapping": lambda x: x.as_strided(x.shape, [1] * x.dim()),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x,
    "parameter": lambda x: torch.nn.Parameter(x) if x.is_floating_point() else x,
    "wants a gradient": lambda x: x.clone().requires_grad_() if x.is_floating_point() else x,
    **{f"as {dtype}": lambda x, dtype=dtype: x.to(dtype) for dtype in DTYPES},
    **{f"{count} wide": widened(count) for count in (2**31, 2**31 + 1, 2**45, 2**45 + 1, 2**58 + 1)},
    **{f"holds {v}": filled(v) for v in FLOAT_VALUES},
}
INTEGER_CHANGES = {f"holds {value}": filled(value) for value in EXTREMES}


class Call(NamedTuple):
    """An op and its arguments, with what was changed of them for people to read."""

    op: str
    size: Size
    changes: dict[int, str]
    arguments: list[Any]
    backward: bool

    def __repr__(self) -> str:
        return f"{self.op} of {tuple(self.size)}, changed {self.changes}, backward {self.backward}"


@st.composite
def calls(draw: st.DrawFn, names: tuple[str, ...], sides: tuple[int, ...], wholes: tuple[Any, ...]) -> Call:
    op = draw(st.sampled_from(names))
    side = st.sampled_from(sides)
    size = Size(draw(st.sampled_from((1, 2))), draw(st.sampled_from((1, 2, 3))), draw(side), draw(side))
    arguments, changes = CALLS[op][1](size), {}
    for _ in range(draw(st.sampled_from((0, 1, 1, 1, 2, 3)))):
        place = draw(st.integers(0, len(arguments) - 1))
        value = arguments[place]
        if isinstance(value, Tensor):
            if value.numel() > 10**6:  # large by its strides: what makes a copy of it would fail here, not in an op
                continue
            choices = TENSOR_CHANGES if value.is_floating_point() else TENSOR_CHANGES | INTEGER_CHANGES
            change = draw(st.sampled_from(list(choices)))
            try:
                arguments[place] = choices[change](value)
            except (RuntimeError, ValueError, IndexError, TypeError):  # PyTorch cannot make such a tensor
                continue
            changes[place] = f"{changes[place]}, then {change}" if place in changes else change
        elif place not in changes:
            choices = FORMS if value in FORMS and value is not None else wholes if isinstance(value, int) else NUMBERS
            arguments[place] = draw(st.sampled_from(choices))
            changes[place] = repr(arguments[place])[:20]
    return Call(op, size, changes, arguments, draw(st.booleans()))


def run(call: Call) -> None:
    """Call the op, and go back through what it returns; a refusal is as good as a result."""
    try:
        result = CALLS[call.op][0](*call.arguments)
    except REFUSED as error:
        assert str(error)
        return
    outputs = result if isinstance(result, tuple) else (result,)
    outputs = [one for one in outputs if one is not None and one.requires_grad]
    if call.backward and outputs and not outputs[0].is_meta:
        torch.autograd.backward(outputs, [torch.ones(()).to(one).expand_as(one) for one in outputs])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend, cases", [("native", 4000), ("reference", 2000), ("triton", 300)])
def test_an_op_computes_or_refuses(backend, cases):
    if backend == "triton" and not (
        os.environ.get("TRITON_INTERPRET") and "triton" in backends.KERNELS["take_crops"]["cpu"]
    ):
        pytest.skip("Triton is not interpreted")
    kernels = {op: names["cpu"] for op, names in backends.KERNELS.items()}
    kernels |= {"with_high_pass": kernels["high_pass"], "residual_block": kernels["conv_bias_lrelu"]}
    kernels["nss_features, whole"] = kernels["nss_features"]
    names = tuple(op for op in CALLS if backend in (*kernels[op], "reference"))
    quick = backend == "triton"  # interpreted: half a millisecond for each program
    sizes = ((1, 2, 3, 8), WHOLES) if quick else (SIDES, (*WHOLES, 96, 97))

    with use_backend(backend):
        try_cases(run, cases, calls(names, *sizes))


# Of the first runs: what ended in another exception, took memory without bound, or read what is not there.
REFUSALS = [
    *[("nafblock", 1, change) for change in ("text", "list", "nested", "sparse")],
    *[("conv_bias_lrelu", 1, "sparse"), ("conv_bias_lrelu", 2, "None"), ("conv_bias_lrelu", 3, 2**70)],
    *[("residual_block", 3, "list"), ("residual_block", 4, "nested"), ("layernorm2d", 1, "text")],
    *[("layernorm2d", 3, 2**70), ("instance_norm_lrelu", 1, 2**70), ("instance_norm_lrelu", 2, float("nan"))],
    *[("gated_dconv", 1, "longer"), ("gated_dconv", 2, "nested"), ("gated_dconv", 3, None), ("gated_dconv", 4, "meta")],
    *[("high_pass", 0, "sparse"), ("high_pass", 0, f"{2**31} wide"), ("with_high_pass", 0, f"{2**45 + 1} wide")],
    *[("ssim", 0, "nested"), ("rain_residual", 4, "sparse"), ("rain_residual", 0, "nested")],
    *[("nss_features", 0, f"{2**45} wide"), ("nss_features", 2, None), ("nss_features, whole", 2, "matlab")],
    *[("clip_preprocess", 1, side) for side in (0, -1, 7.0, 2**20, 2**70)],
    *[("take_crops", 2, float("inf")), ("take_crops", 2, 2**40), ("take_crops", 1, "meta")],
    *[("pool_update", 1, "empty"), ("pool_update", 5, 1e300), ("pool_update", 0, "meta")],
]


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("op, place, change", REFUSALS, ids=str)
def test_what_fuzzing_found_is_refused(backend, op, place, change):
    arguments = CALLS[op][1](Size(2, 3, 16, 17))
    is_tensor = isinstance(arguments[place], Tensor)
    arguments[place] = TENSOR_CHANGES[change](arguments[place]) if is_tensor else change
    with use_backend(backend), pytest.raises(REFUSED):
        CALLS[op][0](*arguments)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize(
    "column, value", [(0, -1), (0, 2**62), (1, 0), (2, 2**62), (3, -1), (3, 2**63 - 1), (4, 2**63 - 1)]
)
def test_a_window_anywhere_is_refused_before_it_is_read(backend, column, value):
    size = Size(1, 3, 8, 9)
    windows = windows_of(size)
    windows[1, column] = value
    with use_backend(backend), pytest.raises(ValueError, match="window 1 lies outside"):
        ops.take_crops(pixels_of(size), windows, 5)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("place", [(-1, 0), (3, 0), (0, -1), (0, 1), (2**63 - 1, 0), (0, 2**63 - 1)])
def test_a_candidate_without_a_place_is_refused(backend, place):
    size = Size(1, 3, 8, 9)
    arena, scores = torch.zeros(2, 3 * 8 * 9, dtype=torch.uint8), torch.full((3, 2), -torch.inf)
    with use_backend(backend), pytest.raises(ValueError, match="candidate 0 has no place"):
        ops.pool_update(arena, scores, image_of(size, 3), torch.ones(1), torch.tensor([place]))


def test_a_line_of_pixels_takes_no_more_than_its_square():
    with use_backend("native"):
        assert ops.clip_preprocess(torch.rand(1, 3, 1, 200_000)).shape == (1, 3, 224, 224)
    with use_backend("reference"), pytest.raises(ValueError, match="the shape of images asks for"):
        ops.clip_preprocess(torch.rand(1, 3, 1, 200_000))


def test_the_reference_works_on_the_meta_device_and_on_parameters():
    with use_backend("reference"):
        assert ops.high_pass(torch.rand(1, 3, 16, 16, device="meta")).is_meta
        assert not ops.nss_features(torch.nn.Parameter(torch.rand(1, 3, 16, 16)), 8, YIQ).requires_grad
