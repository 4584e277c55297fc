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

from . import nafblock_fused as fused
from . import nafblock_wide as wide
from ._launch import on_device, warps
from .nafblock_depthwise import depthwise_back, gate, gate_back
from .nafblock_mix import mix_back_kernel, mix_kernel
from .nafblock_sums import SECTIONS, weights_kernel


def forward(x: Tensor, weights: Sequence[Tensor], eps: float) -> tuple[Tensor, ...]:
    """The block's output; expand1's output, the attention's mean, the residual sum y, and the first gate's output u.

    Of many channels also the matrices in the dtype of x, and of still more what stands around expand2.
    """
    w = NafWeights(*weights)
    images, _, height, width = x.shape
    rows, few = _rows(x), _fits(x, fused.FORWARD)
    low = () if _fits(x, fused.BACKWARD) else wide.lower(w, x.dtype)
    if few:
        t = fused.norm_expand(rows, w, eps, low)
        u, partials = gate(t, w.depthwise, w.depthwise_bias, images, height, width)
        mean, mixer = _mix(partials, images, height * width, w, x.dtype)
        out, y = fused.tail(rows, u, mixer, w, eps, low)
        return _image(out, x), t, mean, y, u, *low
    t, normed1 = wide.norm_expand(rows, w, eps, low)
    u, partials = gate(t, w.depthwise, w.depthwise_bias, images, height, width)
    mean, mixer = _mix(partials, images, height * width, w, x.dtype)
    out, y, *kept = wide.tail(rows, u, mixer, w, eps, low)
    return _image(out, x), t, mean, y, u, *low, normed1, *kept


def backward(
    v_out: Tensor, x: Tensor, t: Tensor, mean: Tensor, y: Tensor, u: Tensor, *more: Tensor | Sequence[Tensor] | float
) -> list[Tensor]:
    """Gradients at x and at every weight. After u what else `forward` kept, the weights and eps."""
    *kept, weights, eps = more
    w = NafWeights(*weights)
    images, channels, height, width = x.shape
    rows, g, few = _rows(x), _rows(v_out.to(x.dtype)), _fits(x, fused.BACKWARD)
    pixels, low, made = height * width, wide.Low(*kept[:5]) if kept else None, kept[5:]
    v_y, tail, pairs = fused.tail_back(g, y, w, eps) if few else wide.tail_back(g, y, w, eps, low, made[1:])
    if u.shape[1] <= fused.FORWARD:
        products = fused.products(v_y, u, images, w.beta.dtype)  # [N, to, from] and the sums of v_y
        sums = products[:, channels * channels :]
    else:
        products = _products(v_y, u, images, w.beta.dtype)
        sums = tail.norm[2]
    mixer, *scales = _mix_back(products, mean, pixels, w, u.dtype)
    v_u = torch.bmm(_per_image(v_y, images), mixer).view_as(u)
    v_a, depthwise = gate_back(v_u, scales.pop(), t, w.depthwise, w.depthwise_bias, images, height, width)
    v_t, sums0 = depthwise_back(v_a, w.depthwise, height, width, not few)
    if few:
        v_rows, head, *pair = fused.expand_back(v_t, rows, v_y, w, eps)
    else:
        v_rows, head, *pair = wide.expand_back(v_t, rows, v_y, w, eps, low, made[:1], sums0)
    matrices = [*pairs, *pair] if few else wide.matrices([*pairs, *pair], w.beta.dtype)
    return [_image(v_rows, x), *_sums(w, matrices, tail, head, products, sums, scales, mean, depthwise, few)]


def _sums(
    w: NafWeights, matrices: Sequence[Tensor], tail: wide.Parts, head: wide.Parts, products: Tensor, sums: Tensor,
    scales: Sequence[Tensor], mean: Tensor, depthwise: Tensor, few: bool,
) -> list[Tensor]:  # fmt: skip
    """The gradients at the weights of what the other kernels summed by parts."""
    channels = mean.shape[1]
    out = w.beta.new_empty(sum(weight.numel() for weight in w))
    product2, expand2, expand1 = matrices
    block_t, block_f = 8, min(64, triton.next_power_of_2(channels))
    # 8 spill for sm_90 where 32 channels leave a thread one number, and at 512 channels.
    count = warps(out) if channels > 256 else min(8, block_f // 8)
    with on_device(out):
        weights_kernel[(triton.cdiv(channels, block_t), SECTIONS)](
            out, product2, tail.sums, expand2, tail.norm, products, sums, *scales, mean, depthwise,
            head.sums, expand1, head.norm, w.gamma, w.project2, w.project2_bias, w.beta, w.project1, w.project1_bias,
            w.expand2, w.norm2_weight, w.norm2_bias, w.expand1, w.norm1_weight, w.norm1_bias, len(mean),
            len(product2), product2.stride(0), len(tail.sums), tail.sums.stride(0),
            len(expand2), expand2.stride(0), tail.norm.shape[1], products.stride(0), len(sums), sums.stride(0),
            len(depthwise), len(head.sums), len(expand1), expand1.stride(0), head.norm.shape[1],
            CHANNELS=channels, FEW=few, BLOCK_T=block_t, BLOCK_F=block_f, BLOCK_B=32, num_warps=count,
        )  # fmt: skip
    pieces = out.split([weight.numel() for weight in w])
    return [piece.view_as(weight) for piece, weight in zip(pieces, w, strict=True)]


def _fits(x: Tensor, channels: int) -> bool:
    """Whether the fused kernels take x: wide numbers have no tensor cores and are the library's, but to be tested."""
    return x.shape[1] <= channels and (x.dtype in HALVES or (x.dtype == torch.float64 and not x.is_cuda))


def _mix(partials: Tensor, images: int, pixels: int, w: NafWeights, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The mean of u, [N, C], of its sums by blocks; and project1's matrix for every image, [N, to, from]."""
    channels = partials.shape[1]
    mean = partials.new_empty(images, channels)
    mixer = partials.new_empty(images, channels, channels, dtype=dtype)
    block_t, block_f = _matrix_blocks(channels)
    with on_device(partials):
        mix_kernel[(images, triton.cdiv(channels, block_f))](
            partials, w.attention, w.attention_bias, w.beta, w.project1, mean, mixer, len(partials) // images, pixels,
            channels, BLOCK_B=16, BLOCK_T=block_t, BLOCK_F=block_f,
        )  # fmt: skip
    return mean, mixer


def _mix_back(products: Tensor, mean: Tensor, pixels: int, w: NafWeights, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The matrices again; attention(mean), the gradient at it, and the one at every pixel of u in parts."""
    images, channels = mean.shape
    block_t, block_f = _matrix_blocks(channels)
    tiles = triton.cdiv(channels, block_f)
    mixer = mean.new_empty(images, channels, channels, dtype=dtype)
    scale, v_scale, v_mean = torch.empty_like(mean), torch.empty_like(mean), mean.new_empty(images, tiles, channels)
    with on_device(mean):
        mix_back_kernel[(images, tiles)](
            products, mean, w.attention, w.attention_bias, w.beta, w.project1, scale, v_scale, mixer, v_mean,
            products.stride(0), pixels, channels, BLOCK_T=block_t, BLOCK_F=block_f,
        )  # fmt: skip
    return mixer, scale, v_scale, v_mean


def _products(v_y: Tensor, u: Tensor, images: int, wide: torch.dtype) -> Tensor:
    """v_y^T u of every image, [N, to, from], never rounded to half precision: gradients are made of these sums."""
    first, second = _per_image(v_y, images).transpose(1, 2), _per_image(u, images)
    if u.dtype in HALVES and u.is_cuda:
        return torch.bmm(first, second, out_dtype=wide)
    return torch.bmm(first.to(wide), second.to(wide))


def _matrix_blocks(channels: int) -> tuple[int, int]:
    block = triton.next_power_of_2(channels)
    return min(32, block), min(64, block)


def _rows(x: Tensor) -> Tensor:
    """[N, C, H, W] as [N * H * W, C]; no copy where the channels lie last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).contiguous()


def _image(rows: Tensor, like: Tensor) -> Tensor:
    images, _, height, width = like.shape
    return rows.view(images, height, width, -1).permute(0, 3, 1, 2)


def _per_image(rows: Tensor, images: int) -> Tensor:
    return rows.view(images, -1, rows.shape[1])
