"""Triton kernels of instance_norm_lrelu: the pixels of an image are cut into pieces, in two stages each way.

First every piece's statistics, then the result, for which a program merges the statistics of all pieces; so hundreds
of programs read at a time, 128 bytes of neighbouring channels each. Backward the statistics are kept, and sums of the
gradient take their place. Compiled for sm_90 and run by the interpreter; not yet measured on a GPU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rgsud_fast.ops._layout import in_layout_of, last

from ._launch import accumulator, on_device

_PIECE = 256  # pixels at least
_PIECES = 64  # of an image at most
_ELEMENTS = 4096  # of a block
_SIZES = ["pixels", "piece", "pieces"]  # one compilation serves all


def forward(x: Tensor, slope: float, eps: float) -> tuple[Tensor, Tensor]:
    """lrelu((x - mean) / sqrt(var + eps)) of each plane; and the statistics of the pieces, [N, pieces, 2, C]."""
    rows = last(x)
    statistics, out = _partials(x), torch.empty_like(rows)
    _launch(statistics_kernel, rows, statistics)
    _launch(apply_kernel, rows, statistics, out, slope=slope, eps=eps)
    return in_layout_of(x, out), statistics


def backward(v_out: Tensor, x: Tensor, statistics: Tensor, slope: float, eps: float) -> Tensor:
    """Gradient at x."""
    rows, v_out = last(x), last(v_out)
    sums, v_x = _partials(x), torch.empty_like(rows)
    _launch(sums_kernel, rows, statistics, v_out, sums, slope=slope, eps=eps)
    _launch(gradient_kernel, rows, statistics, v_out, sums, v_x, slope=slope, eps=eps)
    return in_layout_of(x, v_x)


@triton.jit(do_not_specialize=_SIZES)
def statistics_kernel(
    x_ptr,  # [N, pixels, C]
    statistics_ptr,  # [N, pieces, 2, C]: mean, and sum of squares about it
    pixels,
    piece,  # pixels of a piece, a multiple of BLOCK_P
    pieces,
    channels,
    ACC: tl.constexpr,
    PIECES: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    base, to, c, first = _place(pixels, piece, pieces, channels, BLOCK_C)
    mean = tl.zeros((BLOCK_C,), dtype=ACC)
    square = tl.zeros((BLOCK_C,), dtype=ACC)
    # Chan's merging of blocks, in which no large sums cancel.
    for begin in range(0, tl.minimum(piece, pixels - first), BLOCK_P):
        at, inside = _block(begin, first, c, pixels, channels, BLOCK_P)
        x = tl.load(x_ptr + base + at, mask=inside, other=0.0).to(ACC)
        count = tl.minimum(pixels - first - begin, BLOCK_P).to(ACC)
        seen = begin + count
        block_mean = tl.sum(x, axis=0) / count
        centred = tl.where(inside, x - block_mean[None, :], 0.0)
        away = block_mean - mean
        square += tl.sum(centred * centred, axis=0) + away * away * (begin * count / seen)
        mean += away * (count / seen)
    tl.store(statistics_ptr + to, mean, mask=c < channels)
    tl.store(statistics_ptr + to + channels, square, mask=c < channels)


@triton.jit(do_not_specialize=_SIZES)
def apply_kernel(
    x_ptr,  # [N, pixels, C]
    statistics_ptr,  # [N, pieces, 2, C]
    out_ptr,  # as x
    pixels,
    piece,
    pieces,
    channels,
    SLOPE: tl.constexpr,
    EPS: tl.constexpr,
    ACC: tl.constexpr,
    PIECES: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    base, _, c, first = _place(pixels, piece, pieces, channels, BLOCK_C)
    mean, inverse = _merge(statistics_ptr, c, pixels, piece, pieces, channels, EPS, PIECES)
    for begin in range(0, tl.minimum(piece, pixels - first), BLOCK_P):
        at, inside = _block(begin, first, c, pixels, channels, BLOCK_P)
        x = tl.load(x_ptr + base + at, mask=inside, other=0.0).to(ACC)
        normal = (x - mean[None, :]) * inverse[None, :]
        out = tl.where(normal > 0, normal, normal * SLOPE)
        tl.store(out_ptr + base + at, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=_SIZES)
def sums_kernel(
    x_ptr,  # [N, pixels, C]
    statistics_ptr,  # [N, pieces, 2, C]
    v_out_ptr,  # as x
    sums_ptr,  # [N, pieces, 2, C]: of g, and of g times the normalised x
    pixels,
    piece,
    pieces,
    channels,
    SLOPE: tl.constexpr,
    EPS: tl.constexpr,
    ACC: tl.constexpr,
    PIECES: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    base, to, c, first = _place(pixels, piece, pieces, channels, BLOCK_C)
    mean, inverse = _merge(statistics_ptr, c, pixels, piece, pieces, channels, EPS, PIECES)
    total = tl.zeros((BLOCK_C,), dtype=ACC)
    along = tl.zeros((BLOCK_C,), dtype=ACC)
    for begin in range(0, tl.minimum(piece, pixels - first), BLOCK_P):
        at, inside = _block(begin, first, c, pixels, channels, BLOCK_P)
        g, normal = _through(x_ptr, v_out_ptr, base, at, inside, mean, inverse, SLOPE, ACC)
        total += tl.sum(g, axis=0)
        along += tl.sum(g * normal, axis=0)
    tl.store(sums_ptr + to, total, mask=c < channels)
    tl.store(sums_ptr + to + channels, along, mask=c < channels)


@triton.jit(do_not_specialize=_SIZES)
def gradient_kernel(
    x_ptr,  # [N, pixels, C]
    statistics_ptr,  # [N, pieces, 2, C]
    v_out_ptr,  # as x
    sums_ptr,  # [N, pieces, 2, C]
    v_x_ptr,  # as x
    pixels,
    piece,
    pieces,
    channels,
    SLOPE: tl.constexpr,
    EPS: tl.constexpr,
    ACC: tl.constexpr,
    PIECES: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    base, _, c, first = _place(pixels, piece, pieces, channels, BLOCK_C)
    mean, inverse = _merge(statistics_ptr, c, pixels, piece, pieces, channels, EPS, PIECES)
    total, along = _of_all_pieces(sums_ptr, c, pieces, channels, PIECES)
    total, along = tl.sum(total, axis=0) / pixels, tl.sum(along, axis=0) / pixels
    # With n the normalised x and g = v_out * lrelu'(n): v_x = (g - mean(g) - n * mean(g * n)) * inverse.
    for begin in range(0, tl.minimum(piece, pixels - first), BLOCK_P):
        at, inside = _block(begin, first, c, pixels, channels, BLOCK_P)
        g, normal = _through(x_ptr, v_out_ptr, base, at, inside, mean, inverse, SLOPE, ACC)
        v_x = (g - total[None, :] - normal * along[None, :]) * inverse[None, :]
        tl.store(v_x_ptr + base + at, v_x.to(v_x_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _place(pixels, piece, pieces, channels, BLOCK_C: tl.constexpr):
    # Where this program's piece begins, where its partial sums [C] go, its channels [C] and its first pixel.
    program = tl.program_id(0).to(tl.int64)
    image, first = program // pieces, program % pieces * piece
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    return (image * pixels + first) * channels, program * (2 * channels) + c, c, first.to(tl.int32)


@triton.jit
def _block(begin, first, c, pixels, channels, BLOCK_P: tl.constexpr):
    # Offsets [P, C] of a stretch of the piece's pixels, and which elements exist.
    p = begin + tl.arange(0, BLOCK_P)
    return p[:, None] * channels + c[None, :], (p < pixels - first)[:, None] & (c < channels)[None, :]


@triton.jit
def _of_all_pieces(partials_ptr, c, pieces, channels, PIECES: tl.constexpr):
    # Both partials [PIECES, C] of the program's image.
    some = tl.arange(0, PIECES)
    image = (tl.program_id(0) // pieces).to(tl.int64) * pieces
    at = image * (2 * channels) + some[:, None] * (2 * channels) + c[None, :]
    mask = (some < pieces)[:, None] & (c < channels)[None, :]
    return tl.load(partials_ptr + at, mask=mask, other=0.0), tl.load(partials_ptr + at + channels, mask=mask, other=0.0)


@triton.jit
def _merge(
    statistics_ptr, c, pixels, piece, pieces, channels, EPS: tl.constexpr, PIECES: tl.constexpr
):  # fmt: skip
    # Mean and 1 / sqrt(var + eps) of the program's planes [C].
    means, squares = _of_all_pieces(statistics_ptr, c, pieces, channels, PIECES)
    counts = tl.maximum(tl.minimum(pixels - tl.arange(0, PIECES) * piece, piece), 0).to(means.dtype)[:, None]
    mean = tl.sum(means * counts, axis=0) / pixels
    away = means - mean[None, :]
    square = tl.sum(squares + away * away * counts, axis=0)
    return mean, 1 / tl.sqrt(square / pixels + EPS)


@triton.jit
def _through(x_ptr, v_out_ptr, base, at, inside, mean, inverse, SLOPE: tl.constexpr, ACC: tl.constexpr):
    # The gradient before the activation, and the normalised x, both [P, C] and 0 outside.
    x = tl.load(x_ptr + base + at, mask=inside, other=0.0).to(ACC)
    v = tl.load(v_out_ptr + base + at, mask=inside, other=0.0).to(ACC)
    normal = (x - mean[None, :]) * inverse[None, :]
    return tl.where(normal > 0, v, v * SLOPE), normal


def _partials(x: Tensor) -> Tensor:
    images, channels = x.shape[:2]
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return torch.empty(images, _pieces(x)[1], 2, channels, dtype=wide, device=x.device)


def _pieces(x: Tensor) -> tuple[int, int]:
    """Pixels of a piece, a power of two, and their number per image."""
    pixels = x.shape[2] * x.shape[3]
    piece = max(_PIECE, triton.next_power_of_2(triton.cdiv(pixels, _PIECES)))
    return piece, triton.cdiv(pixels, piece)


def _launch(kernel, x: Tensor, *tensors: Tensor, **constants: float) -> None:
    images, channels, height, width = x.shape
    piece, pieces = _pieces(x)
    block_c = min(64, triton.next_power_of_2(channels))
    with on_device(x):
        kernel[(images * pieces, triton.cdiv(channels, block_c))](
            x, *tensors, height * width, piece, pieces, channels, ACC=accumulator(x),
            PIECES=triton.next_power_of_2(pieces), BLOCK_P=min(_PIECE, _ELEMENTS // block_c), BLOCK_C=block_c,
            **{name.upper(): value for name, value in constants.items()},
        )  # fmt: skip
