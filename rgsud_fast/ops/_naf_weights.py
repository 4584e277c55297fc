"""The parameters of NAFNet's block, as the op and its kernels name them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class NafWeights(NamedTuple):
    """The parameters of one block of C channels, in the order in which they are used."""

    norm1_weight: Tensor  # [C]
    norm1_bias: Tensor  # [C]
    expand1: Tensor  # [2C, C, 1, 1]
    expand1_bias: Tensor  # [2C]
    depthwise: Tensor  # [2C, 1, 3, 3]
    depthwise_bias: Tensor  # [2C]
    attention: Tensor  # [C, C, 1, 1]
    attention_bias: Tensor  # [C]
    project1: Tensor  # [C, C, 1, 1]
    project1_bias: Tensor  # [C]
    norm2_weight: Tensor  # [C]
    norm2_bias: Tensor  # [C]
    expand2: Tensor  # [2C, C, 1, 1]
    expand2_bias: Tensor  # [2C]
    project2: Tensor  # [C, C, 1, 1]
    project2_bias: Tensor  # [C]
    beta: Tensor  # [1, C, 1, 1]
    gamma: Tensor  # [1, C, 1, 1]
