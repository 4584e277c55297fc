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

from rgsud_fast.ops._convolutions import HALVES
from rgsud_fast.ops._naf_weights import NafWeights

from . import implicit_gemm
from . import nafblock_fused as fused
from ._launch import on_device
from .nafblock_kernels import depthwise_back_kernel, gate_back_kernel, gate_kernel, norm_back_kernel, norm_kernel

_PIXELS = 64  # per program of the depthwise kernels
_ELEMENTS = 4096  # per program of the normalisation: 8 pixels of 512 channels


def forward(x: Tensor, weights: Sequence[Tensor], eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The block's output; expand1's output, the attention's mean, the residual sum y, and the first gate's output u."""
    w = NafWeights(*weights)
    images, channels, height, width = x.shape
    rows = _rows(x)
    if _fits(x, fused.FORWARD):
        t = fused.norm_expand(rows, w, eps)
        u, partials = _gate(t, w.depthwise, w.depthwise_bias, images, height, width)
        out, y, mean = fused.tail(rows, u, partials, images, w, eps)
        return _image(out, x), t, mean, y, u
    t = _linear(_normalise(rows, w.norm1_weight, w.norm1_bias, eps), w.expand1, w.expand1_bias)
    u, partials = _gate(t, w.depthwise, w.depthwise_bias, images, height, width)
    mean = partials.view(images, -1, channels).sum(1) / (height * width)
    scale = torch.addmm(w.attention_bias, mean, _matrix(w.attention).t())
    # y = x + beta * (project1 of u * scale), one matrix per image.
    mixer = (_column(w.beta) * _matrix(w.project1))[None] * scale[:, None, :]  # [N, to, from]
    y = torch.bmm(_per_image(u, images), mixer.transpose(1, 2).to(x.dtype)).view_as(rows)
    y += torch.add(rows, (w.beta.flatten() * w.project1_bias).to(x.dtype))
    e = _linear(_normalise(y, w.norm2_weight, w.norm2_bias, eps), w.expand2, w.expand2_bias)
    mixer = (_column(w.gamma) * _matrix(w.project2)).t().to(x.dtype)
    out = torch.addmm((w.gamma.flatten() * w.project2_bias).to(x.dtype), e[:, :channels] * e[:, channels:], mixer)
    return _image(out.add_(y), x), t, mean, y, u


def backward(
    v_out: Tensor, x: Tensor, t: Tensor, mean: Tensor, y: Tensor, u: Tensor, weights: Sequence[Tensor], eps: float
) -> list[Tensor]:
    """Gradients at x and at every weight."""
    w = NafWeights(*weights)
    images, _, height, width = x.shape
    rows, g, few = _rows(x), _rows(v_out.to(x.dtype)), _fits(x, fused.BACKWARD)
    v_y, gradients = fused.tail_back(g, y, w, eps) if few else _tail_back(g, y, x, w, eps)
    v_u = _project_back(v_y, u, mean, height * width, w, gradients)
    v_a, gradients["depthwise"], gradients["depthwise_bias"] = _gate_back(
        v_u, t, w.depthwise, w.depthwise_bias, images, height, width
    )
    v_t = _depthwise_back(v_a, w.depthwise, height, width)
    v_rows, more = fused.expand_back(v_t, rows, v_y, w, eps) if few else _expand_back(v_t, rows, v_y, x, w, eps)
    found = NafWeights(**gradients, **more)
    return [_image(v_rows, x), *(one.view_as(weight) for one, weight in zip(found, weights, strict=True))]


def _tail_back(g: Tensor, y: Tensor, x: Tensor, w: NafWeights, eps: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The gradient at y, and those at the weights of the block's second half, of which e is made again."""
    channels, wide = x.shape[1], w.beta.dtype
    normed = _normalise(y, w.norm2_weight, w.norm2_bias, eps)
    e = _linear(normed, w.expand2, w.expand2_bias)
    first, second = e[:, :channels], e[:, channels:]
    # out = y + gamma * (project2 of v): with M = g^T v, the gradient at project2 is gamma M, and the one at gamma is
    # the row sums of project2 M.
    product, total = _transposed_product(g, first * second, x, wide), g.sum(0, dtype=wide)
    v_gated = g @ (_column(w.gamma) * _matrix(w.project2)).to(x.dtype)
    v_e = torch.empty_like(e)
    torch.mul(v_gated, second, out=v_e[:, :channels])
    torch.mul(v_gated, first, out=v_e[:, channels:])
    v_y, v_norm2_weight, v_norm2_bias = _normalise_back(v_e @ _matrix(w.expand2).to(x.dtype), y, w.norm2_weight, g, eps)
    return v_y, {
        "norm2_weight": v_norm2_weight, "norm2_bias": v_norm2_bias,
        "expand2": _transposed_product(v_e, normed, x, wide), "expand2_bias": v_e.sum(0, dtype=wide),
        "project2": _column(w.gamma) * product, "project2_bias": w.gamma.flatten() * total,
        "gamma": (_matrix(w.project2) * product).sum(1) + w.project2_bias * total,
    }  # fmt: skip


def _project_back(
    v_y: Tensor, u: Tensor, mean: Tensor, pixels: int, w: NafWeights, gradients: dict[str, Tensor]
) -> Tensor:
    """The gradient at u; those at project1, the attention and beta join the others."""
    # y = x + beta * (project1 of u * scale), the same for every image.
    images, wide = len(mean), w.beta.dtype
    if u.shape[1] <= fused.FORWARD:
        products, total = fused.products(v_y, u, images, wide)  # [N, to, from]
    else:
        products = torch.bmm(_per_image(v_y, images).transpose(1, 2), _per_image(u, images)).to(wide)
        total = v_y.sum(0, dtype=wide)
    scale = torch.addmm(w.attention_bias, mean, _matrix(w.attention).t())
    product, mixer = (products * scale[:, None, :]).sum(0), _column(w.beta) * _matrix(w.project1)
    v_scale = (products * mixer).sum(1)  # [N, C]
    gradients |= {
        "attention": v_scale.t() @ mean, "attention_bias": v_scale.sum(0),
        "project1": _column(w.beta) * product, "project1_bias": w.beta.flatten() * total,
        "beta": (_matrix(w.project1) * product).sum(1) + w.project1_bias * total,
    }  # fmt: skip
    v_mean = v_scale @ _matrix(w.attention) / pixels
    v_u = torch.bmm(_per_image(v_y, images), (mixer * scale[:, None, :]).to(u.dtype))
    return v_u.add_(v_mean[:, None, :].to(u.dtype)).view_as(u)


def _expand_back(
    v_t: Tensor, rows: Tensor, v_y: Tensor, x: Tensor, w: NafWeights, eps: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The gradient at x, and those at norm1 and expand1."""
    wide = w.beta.dtype
    normed = _normalise(rows, w.norm1_weight, w.norm1_bias, eps)
    v_normed = v_t @ _matrix(w.expand1).to(x.dtype)
    v_rows, v_norm1_weight, v_norm1_bias = _normalise_back(v_normed, rows, w.norm1_weight, v_y, eps)
    return v_rows, {
        "norm1_weight": v_norm1_weight, "norm1_bias": v_norm1_bias,
        "expand1": _transposed_product(v_t, normed, x, wide), "expand1_bias": v_t.sum(0, dtype=wide),
    }  # fmt: skip


def _transposed_product(a: Tensor, b: Tensor, x: Tensor, wide: torch.dtype) -> Tensor:
    """a^T b of rows, [C of a, C of b], in the dtype of the weights; of half precision by parts, added in float32."""
    if x.dtype not in HALVES:
        return (a.t() @ b).to(wide)
    weight = torch.empty(a.shape[1], b.shape[1], 1, 1, dtype=wide, device="meta")
    return implicit_gemm.at_weight(_image(a, x), None, _image(b, x), weight, 1.0).flatten(1)


def _fits(x: Tensor, channels: int) -> bool:
    """Whether the fused kernels take x: wide numbers have no tensor cores and are the library's, but to be tested."""
    return x.shape[1] <= channels and (x.dtype in HALVES or (x.dtype == torch.float64 and not x.is_cuda))


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
    return u, partials


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


def _rows(x: Tensor) -> Tensor:
    """[N, C, H, W] as [N * H * W, C]; no copy where the channels lie last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).contiguous()


def _image(rows: Tensor, like: Tensor) -> Tensor:
    images, _, height, width = like.shape
    return rows.view(images, height, width, -1).permute(0, 3, 1, 2)


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
