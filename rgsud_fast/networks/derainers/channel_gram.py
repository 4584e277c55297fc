"""The Gram matrices of attention over channels, with the norms of what they are of, and their product with values.

PyTorch's products alone, put so that neither a copy of q, k and v nor a normalised one is made, forward or back: what
a kernel of its own would read and write (docs/derainers.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...ops._backends import requested_backend
from ...ops._layout import lies_last, without_autocast

_FILL = 32  # pixels that a partial sum over pixels has at least, by its channels: its own bytes are then an eighth


def channel_gram(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How channels of q and k lie to each other: q k^T of each head, |q_i| and |k_j|, over all pixels of an image.

    In float32 at least, also where autocast is on.

    Args:
        qkv: q, k and v below each other, [N, 3 C, H, W], C divided by heads. Differentiable once.

    Returns:
        q k^T, [N, heads, C / heads, C / heads]; the norms of q, and of k, [N, heads, C / heads]; and v, [N, C, H, W].
    """
    by_hand = not (torch.jit.is_tracing() or torch.compiler.is_compiling() or requested_backend() == "reference")
    with without_autocast(qkv):
        dense = qkv if lies_last(qkv) else qkv.contiguous()
        dots, norms, v = _ChannelGram.apply(dense, heads) if by_hand else reference(qkv, heads)
    q_norms, k_norms = norms.unflatten(1, (2, heads, -1)).unbind(1)
    return dots, q_norms, k_norms, v


def reference(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """The definition, in plain PyTorch; the norms of q and k beside each other, [N, 2 C]."""
    q, k, v = qkv.chunk(3, 1)
    wide = [at_least_float32(x).unflatten(1, (heads, -1)).flatten(3) for x in (q, k)]
    norms = [torch.linalg.vector_norm(x, dim=-1).flatten(1) for x in wide]
    return wide[0] @ wide[1].transpose(-2, -1), torch.cat(norms, 1), v


def mix(mixing: Tensor, v: Tensor, weight: Tensor) -> Tensor:
    """The 1x1 convolution of what heads make of v, each by its own weights of channels: W (A v), made as (W A) v.

    Args:
        mixing: A of each head, [N, heads, C / heads, C / heads], in float32 at least. Differentiable.
        v: [N, C, H, W]. Differentiable.
        weight: of the convolution, [C, C, 1, 1]. Differentiable.

    Returns:
        [N, C, H, W], in dtype and layout of v.
    """
    with without_autocast(v):
        by_head = weight.to(mixing.dtype).flatten(1).unflatten(1, (mixing.shape[1], -1)).transpose(0, 1)
        whole = (by_head @ mixing).transpose(1, 2).flatten(2).to(v.dtype)  # [N, C, C]
        if v.stride(1) == 1 and v.shape[1] > 1:
            made = v.permute(0, 2, 3, 1).flatten(1, 2) @ whole.transpose(1, 2)
            return made.unflatten(1, v.shape[2:]).permute(0, 3, 1, 2)
        return (whole @ v.flatten(2)).unflatten(2, v.shape[2:])


def at_least_float32(x: Tensor) -> Tensor:
    """In float32 where it is less."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class _ChannelGram(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
        gram = _of_rows if lies_last(qkv) else _of_planes
        dots, norms = gram(_operand(qkv), heads)
        ctx.save_for_backward(qkv, norms)
        return dots, norms, qkv.narrow(1, 2 * (qkv.shape[1] // 3), qkv.shape[1] // 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_dots: Tensor, v_norms: Tensor, v_v: Tensor) -> tuple[Tensor, None]:
        qkv, norms = ctx.saved_tensors
        slopes = (v_norms / norms).masked_fill(norms == 0, 0)  # the gradient is v_norms q / |q|, and 0 of no length
        x = _operand(qkv)
        v_x = torch.empty_like(x)
        v_x[:, 2 * (x.shape[1] // 3) :] = v_v
        back = _back_to_rows if lies_last(qkv) else _back_to_planes
        back(x, v_dots, slopes, v_x)
        return v_x.to(qkv.dtype), None


def _operand(qkv: Tensor) -> Tensor:
    """As products take it: of rows of bfloat16 GPUs give sums in float32; float16 has no room for gradients."""
    return qkv if qkv.is_cuda and qkv.dtype == torch.bfloat16 and lies_last(qkv) else at_least_float32(qkv)


def _of_planes(x: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Channels first: heads of an image are one batch."""
    q, k, _ = x.unflatten(1, (3, heads, -1)).flatten(4).unbind(1)
    dots = torch.stack([a @ b.transpose(1, 2) for a, b in zip(q, k, strict=True)])
    return dots, torch.linalg.vector_norm(x.narrow(1, 0, 2 * (x.shape[1] // 3)).flatten(2), dim=2)


def _back_to_planes(x: Tensor, v_dots: Tensor, slopes: Tensor, v_x: Tensor) -> None:
    wide = slopes.shape[1]
    torch.mul(x[:, :wide], slopes[:, :, None, None], out=v_x[:, :wide])
    heads = v_dots.shape[1]
    q, k, _ = x.unflatten(1, (3, heads, -1)).flatten(4).unbind(1)
    v_q, v_k, _ = v_x.unflatten(1, (3, heads, -1)).flatten(4).unbind(1)
    for image, v_dot in enumerate(v_dots):
        v_q[image].baddbmm_(v_dot, k[image])
        v_k[image].baddbmm_(v_dot.transpose(1, 2), q[image])


def _of_rows(x: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Channels last: one product [q k]^T [q k] of an image, read once, has norms in its diagonal.

    Of several heads, and of q with itself, most of it is thrown away: products that cost less than another reading.
    """
    rows = _rows(x)
    parts = _parts(*rows.shape[1:])
    rows = rows.unflatten(1, (parts, -1)).flatten(0, 1)
    gram = _in_float32(rows.transpose(1, 2), rows).unflatten(0, (-1, parts)).sum(1)
    return _between(gram, heads).clone(memory_format=torch.contiguous_format), gram.diagonal(dim1=1, dim2=2).sqrt()


def _back_to_rows(x: Tensor, v_dots: Tensor, slopes: Tensor, v_x: Tensor) -> None:
    wide, heads = slopes.shape[1], v_dots.shape[1]
    to = v_dots.new_zeros(len(x), wide, wide)  # symmetric
    to.diagonal(dim1=1, dim2=2).copy_(slopes)
    _between(to, heads).copy_(v_dots)
    _between(to.transpose(1, 2), heads).copy_(v_dots)
    torch.bmm(_rows(x), to.to(x.dtype), out=_rows(v_x))


def _rows(x: Tensor) -> Tensor:
    """q and k of features whose channels lie last, [N, pixels, 2 C]; no copy."""
    return x.permute(0, 2, 3, 1).flatten(1, 2).narrow(2, 0, 2 * (x.shape[1] // 3))


def _between(gram: Tensor, heads: int) -> Tensor:
    """What of [q k]^T [q k] is between q and k of the same head: of [N, 2 C, 2 C] a view [N, heads, c, c]."""
    channels = gram.shape[1] // 2
    between = gram.narrow(1, 0, channels).narrow(2, channels, channels)
    blocks = between.unflatten(2, (heads, -1)).unflatten(1, (heads, -1))
    return blocks.diagonal(dim1=1, dim2=3).movedim(-1, 1)


def _parts(pixels: int, channels: int) -> int:
    """Into how many sums one over pixels is split, so that a GPU has work for its processors: a divisor of them."""
    parts = 1
    while pixels % (2 * parts) == 0 and pixels // (2 * parts) >= _FILL * channels:
        parts *= 2
    return parts


def _in_float32(a: Tensor, b: Tensor) -> Tensor:
    """A product of matrices, in float32 at least."""
    return torch.bmm(a, b, out_dtype=torch.float32) if a.dtype == torch.bfloat16 else torch.bmm(a, b)
