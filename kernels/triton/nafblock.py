"""nafblock on the GPU: Triton for what memory limits, the library's matrix products for the rest.

Everything is rows of channels, [N * H * W, C], which is how channels-last images lie. The block's scales never cost a
pass: beta, gamma and the attention are folded into the matrices, and their gradients come out of the matrices' own.
Compiled for sm_90 and run by the interpreter; not yet measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from rgsud_fast.ops._naf_weights import NafWeights

from ._launch import on_device
from .nafblock_kernels import depthwise_back_kernel, gate_back_kernel, gate_kernel, norm_back_kernel, norm_kernel

_PIXELS = 64  # per program of the depthwise kernels
_ELEMENTS = 4096  # per program of the normalisation: 8 pixels of 512 channels


def forward(x: Tensor, weights: Sequence[Tensor], eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The block's output; expand1's output, the attention's mean, the residual sum y, and expand2's output."""
    w = NafWeights(*weights)
    images, channels, height, width = x.shape
    rows = _rows(x)
    t = _linear(_normalise(rows, w.norm1_weight, w.norm1_bias, eps), w.expand1, w.expand1_bias)
    u, mean = _gate(t, w.depthwise, w.depthwise_bias, images, height, width)
    scale = mean @ _matrix(w.attention).t() + w.attention_bias
    # y = x + beta * (project1 of u * scale), one matrix per image.
    mixer = (_column(w.beta) * _matrix(w.project1))[None] * scale[:, None, :]  # [N, to, from]
    y = _add(rows, w.beta.flatten() * w.project1_bias)
    y = torch.baddbmm(_per_image(y, images), _per_image(u, images), mixer.transpose(1, 2).to(x.dtype)).view_as(rows)
    e = _linear(_normalise(y, w.norm2_weight, w.norm2_bias, eps), w.expand2, w.expand2_bias)
    v = e[:, :channels] * e[:, channels:]
    mixer = (_column(w.gamma) * _matrix(w.project2)).t().to(x.dtype)
    out = torch.addmm(_add(y, w.gamma.flatten() * w.project2_bias), v, mixer)
    return _image(out, x), t, mean, y, e


def backward(
    v_out: Tensor, x: Tensor, t: Tensor, mean: Tensor, y: Tensor, e: Tensor, weights: Sequence[Tensor], eps: float
) -> list[Tensor]:
    """Gradients at x and at every weight."""
    w = NafWeights(*weights)
    images, channels, height, width = x.shape
    rows, g, wide = _rows(x), _rows(v_out.to(x.dtype)), w.beta.dtype
    first, second = e[:, :channels], e[:, channels:]

    # out = y + gamma * (project2 of v): with M = g^T v, the gradient at project2 is gamma M, and the one at gamma is
    # the row sums of project2 M.
    product, total = (g.t() @ (first * second)).to(wide), g.sum(0, dtype=wide)
    v_project2, v_project2_bias = _column(w.gamma) * product, w.gamma.flatten() * total
    v_gamma = (_matrix(w.project2) * product).sum(1) + w.project2_bias * total
    v_gated = g @ (_column(w.gamma) * _matrix(w.project2)).to(x.dtype)
    v_e = torch.cat([v_gated * second, v_gated * first], 1)
    normed = _normalise(y, w.norm2_weight, w.norm2_bias, eps)
    v_expand2, v_expand2_bias = (v_e.t() @ normed).to(wide), v_e.sum(0, dtype=wide)
    v_y, v_norm2_weight, v_norm2_bias = _normalise_back(v_e @ _matrix(w.expand2).to(x.dtype), y, w.norm2_weight, g, eps)

    # y = x + beta * (project1 of u * scale), the same for every image; u is made again.
    u, _ = _gate(t, w.depthwise, w.depthwise_bias, images, height, width)
    products = torch.bmm(_per_image(v_y, images).transpose(1, 2), _per_image(u, images)).to(wide)  # [N, to, from]
    scale = mean @ _matrix(w.attention).t() + w.attention_bias
    product, total = (products * scale[:, None, :]).sum(0), v_y.sum(0, dtype=wide)
    v_project1, v_project1_bias = _column(w.beta) * product, w.beta.flatten() * total
    v_beta = (_matrix(w.project1) * product).sum(1) + w.project1_bias * total
    mixer = _column(w.beta) * _matrix(w.project1)
    v_scale = (products * mixer).sum(1)  # [N, C]
    v_mean = v_scale @ _matrix(w.attention) / (height * width)
    v_u = torch.baddbmm(
        v_mean[:, None, :].to(x.dtype), _per_image(v_y, images), (mixer * scale[:, None, :]).to(x.dtype)
    ).view_as(rows)

    v_a, v_depthwise, v_depthwise_bias = _gate_back(v_u, t, w.depthwise, w.depthwise_bias, images, height, width)
    v_t = _depthwise_back(v_a, w.depthwise, height, width)
    normed = _normalise(rows, w.norm1_weight, w.norm1_bias, eps)
    v_rows, v_norm1_weight, v_norm1_bias = _normalise_back(
        v_t @ _matrix(w.expand1).to(x.dtype), rows, w.norm1_weight, v_y, eps
    )
    gradients = NafWeights(
        norm1_weight=v_norm1_weight,
        norm1_bias=v_norm1_bias,
        expand1=(v_t.t() @ normed).to(wide),
        expand1_bias=v_t.sum(0, dtype=wide),
        depthwise=v_depthwise,
        depthwise_bias=v_depthwise_bias,
        attention=v_scale.t() @ mean,
        attention_bias=v_scale.sum(0),
        project1=v_project1,
        project1_bias=v_project1_bias,
        norm2_weight=v_norm2_weight,
        norm2_bias=v_norm2_bias,
        expand2=v_expand2,
        expand2_bias=v_expand2_bias,
        project2=v_project2,
        project2_bias=v_project2_bias,
        beta=v_beta,
        gamma=v_gamma,
    )
    return [_image(v_rows, x), *(one.view_as(weight) for one, weight in zip(gradients, weights, strict=True))]


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
    return torch.addmm(bias.to(rows.dtype), rows, _matrix(weight).t().to(rows.dtype))


def _add(rows: Tensor, bias: Tensor) -> Tensor:
    return rows + bias.to(rows.dtype)


def _rows(x: Tensor) -> Tensor:
    """[N, C, H, W] as [N * H * W, C]; no copy where the channels lie last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).contiguous()


def _image(rows: Tensor, like: Tensor) -> Tensor:
    images, channels, height, width = like.shape
    return rows.view(images, height, width, channels).permute(0, 3, 1, 2)


def _matrix(weight: Tensor) -> Tensor:
    """The weights of a 1 x 1 convolution as [to, from]."""
    return weight.flatten(1)


def _column(factor: Tensor) -> Tensor:
    """One factor per channel as [C, 1]."""
    return factor.view(-1, 1)


def _per_image(rows: Tensor, images: int) -> Tensor:
    return rows.view(images, -1, rows.shape[1])


def _blocks(channels: int) -> tuple[int, int]:
    block_c = triton.next_power_of_2(channels)
    return max(1, _ELEMENTS // block_c), block_c
