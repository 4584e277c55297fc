"""nafblock on the GPU: Triton for what memory limits, the library's matrix products for the rest.

Everything is rows of channels, [N * H * W, C], which is how channels-last images lie. The block's scales never cost a
pass: beta, gamma and the attention are folded into the matrices, and their gradients come out of the matrices' own.
Compiled for sm_90 and run by the interpreter; not yet measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._launch import on_device

_PIXELS = 64  # per program of the depthwise kernels
_ELEMENTS = 4096  # per program of the normalisation: 8 pixels of 512 channels


def forward(x: Tensor, weights: Sequence[Tensor], eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The block's output; expand1's output, the attention's mean, the residual sum y, and expand2's output."""
    n1w, n1b, e1, e1b, dw, dwb, att, attb, p1, p1b, n2w, n2b, e2, e2b, p2, p2b, beta, gamma = weights
    images, channels, height, width = x.shape
    rows = _rows(x)
    t = _linear(_normalise(rows, n1w, n1b, eps), e1, e1b)
    u, mean = _gate(t, dw, dwb, images, height, width)
    scale = mean @ att.view(channels, channels).t() + attb
    # y = x + beta * (project1 of u * scale), one matrix per image.
    mixer = (beta.view(-1, 1) * p1.view(channels, channels))[None] * scale[:, None, :]  # [N, to, from]
    y = _add(rows, beta.view(-1) * p1b)
    y = torch.baddbmm(_per_image(y, images), _per_image(u, images), mixer.transpose(1, 2).to(x.dtype)).view_as(rows)
    e = _linear(_normalise(y, n2w, n2b, eps), e2, e2b)
    v = e[:, :channels] * e[:, channels:]
    out = torch.addmm(
        _add(y, gamma.view(-1) * p2b), v, (gamma.view(-1, 1) * p2.view(channels, channels)).t().to(x.dtype)
    )
    return _image(out, x), t, mean, y, e


def backward(
    v_out: Tensor, x: Tensor, t: Tensor, mean: Tensor, y: Tensor, e: Tensor, weights: Sequence[Tensor], eps: float
) -> list[Tensor]:
    """Gradients at x and at every weight."""
    n1w, n1b, e1, _, dw, dwb, att, attb, p1, p1b, n2w, n2b, e2, _, p2, p2b, beta, gamma = weights
    images, channels, height, width = x.shape
    rows, g, wide = _rows(x), _rows(v_out.to(x.dtype)), n1w.dtype
    att, p1, p2, beta, gamma = (w.view(-1, channels) for w in (att, p1, p2, beta, gamma))
    e1, e2 = e1.view(-1, channels), e2.view(-1, channels)
    first, second = e[:, :channels], e[:, channels:]

    # out = y + gamma * (project2 of v): with M = g^T v, the gradient at project2 is gamma M, and the one at gamma is
    # the row sums of project2 M.
    product = (g.t() @ (first * second)).to(wide)
    g_sum = g.sum(0, dtype=wide)
    v_p2, v_p2b = gamma.t() * product, gamma.view(-1) * g_sum
    v_gamma = (p2 * product).sum(1) + p2b * g_sum
    v_gated = g @ (gamma.t() * p2).to(x.dtype)
    v_e = torch.cat([v_gated * second, v_gated * first], 1)
    normed = _normalise(y, n2w, n2b, eps)
    v_e2, v_e2b = (v_e.t() @ normed).to(wide), v_e.sum(0, dtype=wide)
    v_y, v_n2w, v_n2b = _normalise_back(v_e @ e2.to(x.dtype), y, n2w, g, eps)

    # y = x + beta * (project1 of u * scale), the same for every image; u is made again.
    u, _ = _gate(t, dw, dwb, images, height, width)
    products = torch.bmm(_per_image(v_y, images).transpose(1, 2), _per_image(u, images)).to(wide)  # [N, to, from]
    scale = mean @ att.t() + attb
    y_sum = v_y.sum(0, dtype=wide)
    product = (products * scale[:, None, :]).sum(0)
    v_p1, v_p1b = beta.t() * product, beta.view(-1) * y_sum
    v_beta = (p1 * product).sum(1) + p1b * y_sum
    mixer = beta.t() * p1
    v_scale = (products * mixer).sum(1)  # [N, C]
    v_att, v_attb = v_scale.t() @ mean, v_scale.sum(0)
    v_mean = v_scale @ att / (height * width)
    v_u = torch.baddbmm(
        v_mean[:, None, :].to(x.dtype), _per_image(v_y, images), (mixer * scale[:, None, :]).to(x.dtype)
    ).view_as(rows)

    v_a, v_dw, v_dwb = _gate_back(v_u, t, dw, dwb, images, height, width)
    v_t = _depthwise_back(v_a, dw, height, width)
    normed = _normalise(rows, n1w, n1b, eps)
    v_e1, v_e1b = (v_t.t() @ normed).to(wide), v_t.sum(0, dtype=wide)
    v_x, v_n1w, v_n1b = _normalise_back(v_t @ e1.to(x.dtype), rows, n1w, v_y, eps)
    gradients = [
        v_n1w, v_n1b, v_e1, v_e1b, v_dw, v_dwb, v_att, v_attb, v_p1, v_p1b,
        v_n2w, v_n2b, v_e2, v_e2b, v_p2, v_p2b, v_beta, v_gamma,
    ]  # fmt: skip
    return [_image(v_x, x), *(gradient.view_as(weight) for gradient, weight in zip(gradients, weights, strict=True))]


@triton.jit
def norm_kernel(
    x_ptr,  # [rows, C]
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    out_ptr,  # [rows, C]
    rows,
    channels,
    eps,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    at, c, inside = _place(rows, channels, BLOCK_P, BLOCK_C)
    acc: tl.constexpr = weight_ptr.dtype.element_ty
    normal, _ = _standardise(tl.load(x_ptr + at, mask=inside, other=0.0).to(acc), inside, channels, eps)
    weight = tl.load(weight_ptr + c, mask=c < channels, other=0.0)
    bias = tl.load(bias_ptr + c, mask=c < channels, other=0.0)
    tl.store(out_ptr + at, (normal * weight[None, :] + bias[None, :]).to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def norm_back_kernel(
    v_out_ptr,  # [rows, C]
    x_ptr,  # [rows, C]
    weight_ptr,  # [C]
    v_skip_ptr,  # [rows, C], added to v_x
    v_x_ptr,  # [rows, C]
    partials_ptr,  # [2, programs, C]: of v_weight, of v_bias
    rows,
    channels,
    eps,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    at, c, inside = _place(rows, channels, BLOCK_P, BLOCK_C)
    acc: tl.constexpr = weight_ptr.dtype.element_ty
    normal, inverse = _standardise(tl.load(x_ptr + at, mask=inside, other=0.0).to(acc), inside, channels, eps)
    v_out = tl.load(v_out_ptr + at, mask=inside, other=0.0).to(acc)
    # With g = v_out * weight: v_x = (g - mean_c(g) - normal * mean_c(g * normal)) * inverse.
    g = v_out * tl.load(weight_ptr + c, mask=c < channels, other=0.0)[None, :]
    mean = tl.sum(g, axis=1) / channels
    along = tl.sum(g * normal, axis=1) / channels
    v_x = (g - mean[:, None] - normal * along[:, None]) * inverse[:, None]
    v_x += tl.load(v_skip_ptr + at, mask=inside, other=0.0).to(acc)
    tl.store(v_x_ptr + at, v_x.to(v_x_ptr.dtype.element_ty), mask=inside)
    to = partials_ptr + tl.program_id(0).to(tl.int64) * channels + c
    tl.store(to, tl.sum(v_out * normal, axis=0), mask=c < channels)
    tl.store(to + tl.num_programs(0).to(tl.int64) * channels, tl.sum(v_out, axis=0), mask=c < channels)


@triton.jit
def gate_kernel(
    t_ptr,  # [rows, 2C]
    weight_ptr,  # [2C, 9]
    bias_ptr,  # [2C]
    u_ptr,  # [rows, C]: the product of the two halves after the depthwise convolution
    partials_ptr,  # [images * blocks, C]: sums of u
    height,
    width,
    blocks,  # programs per image
    channels,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image, y, x, c, inside = _pixels(height, width, blocks, BLOCK_P, BLOCK_C)
    row = (image * height + y) * width + x
    a, b = _halves(t_ptr, weight_ptr, bias_ptr, row, y, x, c, inside, height, width, channels, BLOCK_P, BLOCK_C)
    there = inside[:, None] & (c < channels)[None, :]
    u = tl.where(there, a * b, 0.0)
    tl.store(u_ptr + row[:, None] * channels + c[None, :], u.to(u_ptr.dtype.element_ty), mask=there)
    tl.store(partials_ptr + tl.program_id(0).to(tl.int64) * channels + c, tl.sum(u, axis=0), mask=c < channels)


@triton.jit
def gate_back_kernel(
    v_u_ptr,  # [rows, C]
    t_ptr,  # [rows, 2C]
    weight_ptr,  # [2C, 9]
    bias_ptr,  # [2C]
    v_a_ptr,  # [rows, 2C]: at the depthwise convolution's output
    partials_ptr,  # [images * blocks, 10, 2C]: of the nine weights and of the bias
    height,
    width,
    blocks,
    channels,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image, y, x, c, inside = _pixels(height, width, blocks, BLOCK_P, BLOCK_C)
    row = (image * height + y) * width + x
    a, b = _halves(t_ptr, weight_ptr, bias_ptr, row, y, x, c, inside, height, width, channels, BLOCK_P, BLOCK_C)
    there = inside[:, None] & (c < channels)[None, :]
    v_u = tl.load(v_u_ptr + row[:, None] * channels + c[None, :], mask=there, other=0.0).to(a.dtype)
    v_a, v_b = v_u * b, v_u * a
    to = v_a_ptr + row[:, None] * (2 * channels) + c[None, :]
    tl.store(to, v_a.to(v_a_ptr.dtype.element_ty), mask=there)
    tl.store(to + channels, v_b.to(v_a_ptr.dtype.element_ty), mask=there)

    sums = partials_ptr + tl.program_id(0).to(tl.int64) * 20 * channels + c
    for tap in range(9):
        seen = _tap(row, y, x, inside, tap, height, width)
        at = t_ptr + (row + (tap // 3 - 1) * width + tap % 3 - 1)[:, None] * (2 * channels) + c[None, :]
        mask = seen[:, None] & (c < channels)[None, :]
        first = tl.load(at, mask=mask, other=0.0).to(a.dtype)
        second = tl.load(at + channels, mask=mask, other=0.0).to(a.dtype)
        tl.store(sums + tap * 2 * channels, tl.sum(v_a * first, axis=0), mask=c < channels)
        tl.store(sums + tap * 2 * channels + channels, tl.sum(v_b * second, axis=0), mask=c < channels)
    tl.store(sums + 18 * channels, tl.sum(v_a, axis=0), mask=c < channels)
    tl.store(sums + 19 * channels, tl.sum(v_b, axis=0), mask=c < channels)


@triton.jit
def depthwise_back_kernel(
    v_a_ptr,  # [rows, C]
    weight_ptr,  # [C, 9]
    v_t_ptr,  # [rows, C]
    height,
    width,
    blocks,
    channels,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    image, y, x, c, inside = _pixels(height, width, blocks, BLOCK_P, BLOCK_C)
    row = (image * height + y) * width + x
    acc = tl.zeros((BLOCK_P, BLOCK_C), dtype=weight_ptr.dtype.element_ty)
    for tap in range(9):
        seen = _tap(row, y, x, inside, tap, height, width)
        at = v_a_ptr + (row + (tap // 3 - 1) * width + tap % 3 - 1)[:, None] * channels + c[None, :]
        weight = tl.load(weight_ptr + c * 9 + 8 - tap, mask=c < channels, other=0.0)
        value = tl.load(at, mask=seen[:, None] & (c < channels)[None, :], other=0.0).to(acc.dtype)
        acc += weight[None, :] * value
    to = v_t_ptr + row[:, None] * channels + c[None, :]
    tl.store(to, acc.to(v_t_ptr.dtype.element_ty), mask=inside[:, None] & (c < channels)[None, :])


@triton.jit
def _place(rows, channels, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    # Offsets [P, C] of this program's rows, its channels [C], and which elements exist.
    p = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    c = tl.arange(0, BLOCK_C)
    return p[:, None] * channels + c[None, :], c, (p < rows)[:, None] & (c < channels)[None, :]


@triton.jit
def _standardise(x, inside, channels, eps):
    # x without its mean over the channels, over its deviation [P, C]; and 1 / deviation [P].
    centred = tl.where(inside, x - (tl.sum(x, axis=1) / channels)[:, None], 0.0)
    inverse = 1 / tl.sqrt(tl.sum(centred * centred, axis=1) / channels + eps)
    return centred * inverse[:, None], inverse


@triton.jit
def _pixels(height, width, blocks, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    # Image, rows, columns and channels of this program, and which pixels exist. No program spans two images.
    program = tl.program_id(0).to(tl.int64)
    p = program % blocks * BLOCK_P + tl.arange(0, BLOCK_P)
    c = tl.program_id(1).to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)
    return program // blocks, p // width, p % width, c, p < height * width


@triton.jit
def _tap(row, y, x, inside, tap, height, width):
    # Which pixels have a neighbour at this tap.
    from_y, from_x = y + tap // 3 - 1, x + tap % 3 - 1
    return inside & (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)


@triton.jit
def _halves(
    t_ptr, weight_ptr, bias_ptr, row, y, x, c, inside, height, width, channels,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    # Both halves of the depthwise convolution's output.
    there = c < channels
    acc: tl.constexpr = weight_ptr.dtype.element_ty
    a = tl.zeros((BLOCK_P, BLOCK_C), dtype=acc) + tl.load(bias_ptr + c, mask=there, other=0.0)[None, :]
    b = tl.zeros((BLOCK_P, BLOCK_C), dtype=acc) + tl.load(bias_ptr + channels + c, mask=there, other=0.0)[None, :]
    for tap in range(9):
        seen = _tap(row, y, x, inside, tap, height, width)[:, None] & there[None, :]
        at = t_ptr + (row + (tap // 3 - 1) * width + tap % 3 - 1)[:, None] * (2 * channels) + c[None, :]
        weight = weight_ptr + c * 9 + tap
        a += tl.load(weight, mask=there, other=0.0)[None, :] * tl.load(at, mask=seen, other=0.0).to(acc)
        b += (
            tl.load(weight + 9 * channels, mask=there, other=0.0)[None, :]
            * tl.load(at + channels, mask=seen, other=0.0).to(acc)
        )  # fmt: skip
    return a, b


def _normalise(rows: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    out = torch.empty_like(rows)
    count, channels = rows.shape
    block_p, block_c = _blocks(channels)
    with on_device(rows):
        norm_kernel[(triton.cdiv(count, block_p),)](
            rows, weight, bias, out, count, channels, eps, BLOCK_P=block_p, BLOCK_C=block_c
        )
    return out


def _normalise_back(
    v_out: Tensor, rows: Tensor, weight: Tensor, v_skip: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    v_x = torch.empty_like(rows)
    count, channels = rows.shape
    block_p, block_c = _blocks(channels)
    programs = triton.cdiv(count, block_p)
    partials = weight.new_empty(2, programs, channels)
    with on_device(rows):
        norm_back_kernel[(programs,)](
            v_out, rows, weight, v_skip, v_x, partials, count, channels, eps, BLOCK_P=block_p, BLOCK_C=block_c
        )
    return v_x, *partials.sum(1)


def _gate(t: Tensor, dw: Tensor, dwb: Tensor, images: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    channels = t.shape[1] // 2
    blocks, block_c = triton.cdiv(height * width, _PIXELS), min(64, triton.next_power_of_2(channels))
    u, partials = t.new_empty(len(t), channels), dw.new_empty(images * blocks, channels)
    with on_device(t):
        gate_kernel[(images * blocks, triton.cdiv(channels, block_c))](
            t, dw, dwb, u, partials, height, width, blocks, channels, BLOCK_P=_PIXELS, BLOCK_C=block_c
        )
    return u, partials.view(images, blocks, channels).sum(1) / (height * width)


def _gate_back(
    v_u: Tensor, t: Tensor, dw: Tensor, dwb: Tensor, images: int, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    channels = v_u.shape[1]
    blocks, block_c = triton.cdiv(height * width, _PIXELS), min(64, triton.next_power_of_2(channels))
    v_a, partials = torch.empty_like(t), dw.new_empty(images * blocks, 10, 2 * channels)
    with on_device(t):
        gate_back_kernel[(images * blocks, triton.cdiv(channels, block_c))](
            v_u, t, dw, dwb, v_a, partials, height, width, blocks, channels, BLOCK_P=_PIXELS, BLOCK_C=block_c
        )
    sums = partials.sum(0)
    return v_a, sums[:9].t().contiguous(), sums[9]


def _depthwise_back(v_a: Tensor, dw: Tensor, height: int, width: int) -> Tensor:
    rows, channels = v_a.shape
    v_t, blocks = torch.empty_like(v_a), triton.cdiv(height * width, _PIXELS)
    block_c = min(64, triton.next_power_of_2(channels))
    with on_device(v_a):
        depthwise_back_kernel[(rows // (height * width) * blocks, triton.cdiv(channels, block_c))](
            v_a, dw, v_t, height, width, blocks, channels, BLOCK_P=_PIXELS, BLOCK_C=block_c
        )
    return v_t


def _linear(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.addmm(bias.to(rows.dtype), rows, weight.view(len(bias), -1).t().to(rows.dtype))


def _add(rows: Tensor, bias: Tensor) -> Tensor:
    return rows + bias.to(rows.dtype)


def _rows(x: Tensor) -> Tensor:
    """[N, C, H, W] as [N * H * W, C]; no copy where the channels lie last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).contiguous()


def _image(rows: Tensor, like: Tensor) -> Tensor:
    images, channels, height, width = like.shape
    return rows.view(images, height, width, channels).permute(0, 3, 1, 2)


def _per_image(rows: Tensor, images: int) -> Tensor:
    return rows.view(images, -1, rows.shape[1])


def _blocks(channels: int) -> tuple[int, int]:
    block_c = triton.next_power_of_2(channels)
    return max(1, _ELEMENTS // block_c), block_c
