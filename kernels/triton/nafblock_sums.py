"""The Triton kernel that ends nafblock's backward pass: the gradients at all weights, of sums by parts, in one launch.

A program has some channels and one section of the block: the matrices' rows, or columns, of these channels are its own.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .nafblock_mix import total

SECTIONS = 5
_COUNTS = [
    "images", "products2_parts", "sums2_parts", "expand2_parts", "norm2_parts", "sums1_parts", "depthwise_parts",
    "sums0_parts", "expand1_parts", "norm1_parts",
]  # fmt: skip


@triton.jit(do_not_specialize=_COUNTS)
def weights_kernel(
    out_ptr,  # the gradients, one after another, in the order of NafWeights
    products2_ptr,  # [parts, C, C]: v_out^T v
    sums2_ptr,  # [parts, 3C]: of v_out, and of the gradient at expand2's output
    expand2_ptr,  # [parts, 2C, C]: the gradient at expand2; FEW: before its normalisation's scale and shift
    norm2_ptr,  # [2, parts, C]: the gradients at norm2; FEW: none
    products1_ptr,  # [N, C, C]: v_y^T u
    sums1_ptr,  # [parts, C]: of v_y
    scale_ptr,  # [N, C]: attention(mean)
    v_scale_ptr,  # [N, C]
    mean_ptr,  # [N, C]
    depthwise_ptr,  # [parts, 10, 2C]: of the nine weights and of the bias
    sums0_ptr,  # [parts, 2C]: of the gradient at expand1's output
    expand1_ptr,  # as expand2
    norm1_ptr,  # as norm2
    gamma_ptr,  # [C]
    project2_ptr,  # [C, C]
    project2_bias_ptr,  # [C]
    beta_ptr,  # [C]
    project1_ptr,  # [C, C]
    project1_bias_ptr,  # [C]
    w_expand2_ptr,  # [2C, C]
    w_norm2_ptr,  # [C]
    b_norm2_ptr,  # [C]
    w_expand1_ptr,  # [2C, C]
    w_norm1_ptr,  # [C]
    b_norm1_ptr,  # [C]
    images,
    products2_parts,  # how many parts there are, and how far they lie apart
    products2_stride,
    sums2_parts,
    sums2_stride,
    expand2_parts,
    expand2_stride,
    norm2_parts,
    products1_stride,
    sums1_parts,
    sums1_stride,
    depthwise_parts,
    sums0_parts,
    expand1_parts,
    expand1_stride,
    norm1_parts,
    CHANNELS: tl.constexpr,
    FEW: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_F: tl.constexpr,
    BLOCK_B: tl.constexpr,
):
    C: tl.constexpr = CHANNELS
    EXPAND: tl.constexpr = 2 * C * C + 2 * C
    DEPTHWISE: tl.constexpr = 2 * C + EXPAND
    ATTENTION: tl.constexpr = DEPTHWISE + 20 * C
    PROJECT1: tl.constexpr = ATTENTION + C * C + C
    NORM2: tl.constexpr = PROJECT1 + C * C + C
    PROJECT2: tl.constexpr = NORM2 + 2 * C + EXPAND
    BETA: tl.constexpr = PROJECT2 + C * C + C
    r = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    there = r < C
    section = tl.program_id(1)
    if section == 0:
        sums = total(sums2_ptr, sums2_parts, sums2_stride, r, there, BLOCK_B)
        _project(
            out_ptr + PROJECT2, out_ptr + BETA + C, products2_ptr, products2_parts, products2_stride, scale_ptr, False,
            sums, gamma_ptr, project2_ptr, project2_bias_ptr, r, C, BLOCK_F,
        )  # fmt: skip
    elif section == 1:
        sums = total(sums1_ptr, sums1_parts, sums1_stride, r, there, BLOCK_B)
        _project(
            out_ptr + PROJECT1, out_ptr + BETA, products1_ptr, images, products1_stride, scale_ptr, True,
            sums, beta_ptr, project1_ptr, project1_bias_ptr, r, C, BLOCK_F,
        )  # fmt: skip
        _attend(out_ptr + ATTENTION, v_scale_ptr, mean_ptr, images, r, C, BLOCK_F)
    elif section == 2:
        _expand(
            out_ptr + NORM2, expand2_ptr, expand2_parts, expand2_stride, sums2_ptr + C, sums2_parts, sums2_stride,
            norm2_ptr, norm2_parts, w_expand2_ptr, w_norm2_ptr, b_norm2_ptr, r, C, FEW, BLOCK_F, BLOCK_B,
        )  # fmt: skip
    elif section == 3:
        _expand(
            out_ptr, expand1_ptr, expand1_parts, expand1_stride, sums0_ptr, sums0_parts, 2 * C,
            norm1_ptr, norm1_parts, w_expand1_ptr, w_norm1_ptr, b_norm1_ptr, r, C, FEW, BLOCK_F, BLOCK_B,
        )  # fmt: skip
    else:
        for half in tl.static_range(2):
            row = half * C + r
            for tap in range(9):
                sums = total(depthwise_ptr + tap * (2 * C), depthwise_parts, 20 * C, row, there, BLOCK_B)
                tl.store(out_ptr + DEPTHWISE + row * 9 + tap, sums, mask=there)
            sums = total(depthwise_ptr + 18 * C, depthwise_parts, 20 * C, row, there, BLOCK_B)
            tl.store(out_ptr + DEPTHWISE + 18 * C + row, sums, mask=there)


@triton.jit
def _project(
    to, to_factor, products_ptr, parts, stride, scale_ptr, SCALED: tl.constexpr, sums, factor_ptr, matrix_ptr, bias_ptr,
    r, C: tl.constexpr, BLOCK_F: tl.constexpr,
):  # fmt: skip
    # Of z = factor * (matrix v + bias) and M = v_z^T v: factor * M, factor * sums, and at the factor the row sums of
    # matrix * M, plus bias * sums.
    there = r < C
    factor = tl.load(factor_ptr + r, mask=there, other=0.0)
    bias = tl.load(bias_ptr + r, mask=there, other=0.0)
    along = bias * sums
    for begin in range(0, C, BLOCK_F):
        f = begin + tl.arange(0, BLOCK_F)
        at, inside = r[:, None] * C + f[None, :], there[:, None] & (f < C)[None, :]
        product = tl.zeros(at.shape, dtype=factor.dtype)
        for part in range(parts):
            one = tl.load(products_ptr + part * stride + at, mask=inside, other=0.0).to(factor.dtype)
            if SCALED:
                one *= tl.load(scale_ptr + part * C + f, mask=f < C, other=0.0)[None, :]
            product += one
        along += tl.sum(tl.load(matrix_ptr + at, mask=inside, other=0.0) * product, axis=1)
        tl.store(to + at, factor[:, None] * product, mask=inside)
    tl.store(to + C * C + r, factor * sums, mask=there)
    tl.store(to_factor + r, along, mask=there)


@triton.jit
def _attend(to, v_scale_ptr, mean_ptr, images, r, C: tl.constexpr, BLOCK_F: tl.constexpr):
    # v_scale^T mean, and the sums of v_scale.
    there = r < C
    for begin in range(0, C, BLOCK_F):
        f = begin + tl.arange(0, BLOCK_F)
        at, inside = r[:, None] * C + f[None, :], there[:, None] & (f < C)[None, :]
        product = tl.zeros(at.shape, dtype=mean_ptr.dtype.element_ty)
        for image in range(images):
            v_scale = tl.load(v_scale_ptr + image * C + r, mask=there, other=0.0)
            product += v_scale[:, None] * tl.load(mean_ptr + image * C + f, mask=f < C, other=0.0)[None, :]
        tl.store(to + at, product, mask=inside)
    tl.store(to + C * C + r, total(v_scale_ptr, images, C, r, there, 16), mask=there)


@triton.jit
def _expand(
    to, products_ptr, parts, stride, sums_ptr, sums_parts, sums_stride, norm_ptr, norm_parts,
    matrix_ptr, weight_ptr, shift_ptr, r, C: tl.constexpr, FEW: tl.constexpr, BLOCK_F: tl.constexpr,
    BLOCK_B: tl.constexpr,
):  # fmt: skip
    # The gradients at a normalisation and at the matrix [2C, C] behind it, and its bias.
    there = r < C
    to_matrix = to + 2 * C
    for half in tl.static_range(2):
        sums = total(sums_ptr + half * C, sums_parts, sums_stride, r, there, BLOCK_B)
        tl.store(to_matrix + 2 * C * C + half * C + r, sums, mask=there)
    if FEW:
        # With n the normalised rows, v the gradient at W (a n + b), M = v^T n and s the sums of v: M a + s b, at a
        # the column sums of W M, and at b W^T s. Here r are columns.
        weight = tl.load(weight_ptr + r, mask=there, other=0.0)
        shift = tl.load(shift_ptr + r, mask=there, other=0.0)
        v_weight = tl.zeros(r.shape, dtype=weight.dtype)
        v_shift = v_weight
        for begin in range(0, 2 * C, BLOCK_F):
            f = begin + tl.arange(0, BLOCK_F)
            at, inside = f[:, None] * C + r[None, :], (f < 2 * C)[:, None] & there[None, :]
            moments = tl.load(products_ptr + at, mask=inside, other=0.0)
            matrix = tl.load(matrix_ptr + at, mask=inside, other=0.0)
            column = tl.load(sums_ptr + f, mask=f < 2 * C, other=0.0)[:, None]
            v_weight += tl.sum(matrix * moments, axis=0)
            v_shift += tl.sum(matrix * column, axis=0)
            tl.store(to_matrix + at, moments * weight[None, :] + column * shift[None, :], mask=inside)
        tl.store(to + r, v_weight, mask=there)
        tl.store(to + C + r, v_shift, mask=there)
    else:
        for half in tl.static_range(2):
            for begin in range(0, C, BLOCK_F):
                f = begin + tl.arange(0, BLOCK_F)
                at, inside = (half * C + r)[:, None] * C + f[None, :], there[:, None] & (f < C)[None, :]
                product = tl.zeros(at.shape, dtype=weight_ptr.dtype.element_ty)
                for part in range(parts):
                    product += tl.load(products_ptr + part * stride + at, mask=inside, other=0.0)
                tl.store(to_matrix + at, product, mask=inside)
            sums = total(norm_ptr + half * norm_parts * C, norm_parts, C, r, there, BLOCK_B)
            tl.store(to + half * C + r, sums, mask=there)
