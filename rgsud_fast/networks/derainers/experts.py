"""A layer of experts, chosen or weighed by the image: what `moe` has after the blocks of its levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from ...ops import conv_bias_lrelu, layernorm2d
from ...ops.gated_dconv import dconv
from .._common import Checkpointed, recomputed
from .nafnet import LayerNorm2d
from .noise import normal_noise

MOST_CALLS = 8  # of the network between two readings of the balance
_LAYER_STRIDE = 2**20


class MoELayer(nn.Module, Checkpointed):
    """x + beta * sum of R_i E_i(norm(x)), [N, C, H, W] -> [N, C, H, W].

    R = softmax(W mean(norm(x)) + b + noise), per image; hard layers keep its largest, unscaled, so that the router
    learns from how sure it was. An expert is 1x1 to 2C, depth-wise k x k with k = 3, 5, 7 ..., one half times the
    other, 1x1: from the width of a streak to the size of a drop. The noise, in training alone, is on the logits: on
    features it would be gone after the mean.

    Args:
        channels: C.
        experts: how many.
        active: how many a hard layer keeps.
        noise: standard deviation on the logits.
        hard: whether this is a hard layer.
        place: of the layer in its network, so that each has noise of its own.
    """

    if TYPE_CHECKING:  # torch.jit reads the annotations of classes
        steps: Tensor
        used: Tensor

    def __init__(self, channels: int, experts: int, active: int, noise: float, hard: bool, place: int) -> None:
        super().__init__()
        self.experts, self.active, self.noise, self.hard, self.place = experts, active, noise, hard, place
        self.norm = LayerNorm2d(channels)
        self.router = nn.Linear(channels, experts)
        self.expand = nn.Conv2d(channels, 2 * channels * experts, 1)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(2 * channels, 2 * channels, 2 * i + 3, padding=i + 1, groups=2 * channels) for i in range(experts)
        )
        self.project = nn.Conv2d(channels * experts, channels, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(experts, channels))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))  # in training: what the noise goes by
        self.register_buffer("used", torch.zeros(experts))  # sum of shares since somebody looked
        self.seen: list[Tensor] | None = None  # logits by call, where somebody asks for them
        self.fixed: Tensor | None = None  # logits in place of the image's own, [1, experts]
        self.rank = 0  # of the process, whose share of a batch this is
        self.importance: list[Tensor] = []  # mean R of the training batches since the last balance

    def __getstate__(self) -> dict[str, Any]:
        """What a copy has: not what hangs on the graph of the last batches, which cannot be copied."""
        return self.__dict__ | {"importance": []}

    def forward(self, x: Tensor, softly: Tensor) -> Tensor:
        """`softly`: bool scalar; hard layers are soft meanwhile."""
        normal = layernorm2d(x, self.norm.weight, self.norm.bias)
        logits = self.router(normal.float().mean((2, 3))).float() if self.fixed is None else self.fixed
        if self.seen is not None:
            self.seen.append(logits.detach())
        if self.training and self.noise:
            place = self.steps.long() * _LAYER_STRIDE + self.place
            logits = logits + self.noise * normal_noise(logits, place, self.rank * len(logits))
            self.steps.add_(1)
        shares = logits.softmax(1)
        kept = self._kept(shares, softly)
        if self.training:
            self.importance = [*self.importance[-MOST_CALLS:], shares.mean(0)]
            self.used.add_(((kept > 0).float() if self.hard else kept).detach().mean(0))
        kept = kept.to(normal.dtype)
        run = self._run(softly)
        again = self.checkpointed and torch.is_grad_enabled()
        return recomputed(run, x, normal, kept) if again else run(x, normal, kept)

    def _run(self, softly: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        if _is_followed():
            return self._at_once
        if not self.hard or (self.training and self.norm.weight.device.type != "cpu") or bool(softly):
            return self._of_all  # a GPU that trains is not waited for
        return self._of_active

    def _kept(self, shares: Tensor, softly: Tensor) -> Tensor:
        if not self.hard or self.active >= self.experts:
            return shares
        least = shares.topk(self.active, 1).values[:, -1:]
        return torch.where((shares >= least) | (softly > 0), shares, 0)

    def _at_once(self, x: Tensor, normal: Tensor, shares: Tensor) -> Tensor:
        """All experts in one convolution each way, as exporters follow it."""
        parts = self.expand(normal).chunk(self.experts, 1)
        gated = [
            dconv(part, cast(nn.Conv2d, depthwise), "product") * shares[:, i, None, None, None]
            for i, (part, depthwise) in enumerate(zip(parts, self.depthwise, strict=True))
        ]
        made = self.project(torch.cat(gated, 1)) + (shares @ self.bias.to(shares.dtype))[:, :, None, None]
        return x + self.beta * made

    def _of_all(self, x: Tensor, normal: Tensor, shares: Tensor) -> Tensor:
        """All experts, whatever their share: nothing that is done depends on the images."""
        made = x + self._biases(shares)
        for i in range(self.experts):
            made += self._expert(i, normal, shares[:, i].expand(len(normal)))
        return made

    def _of_active(self, x: Tensor, normal: Tensor, shares: Tensor) -> Tensor:
        """Only the experts that an image has; the others have gradients of zeros."""
        biases, chosen = self._biases(shares), shares.detach().expand(len(normal), -1) > 0
        found = [mine.nonzero()[:, 0] for mine in chosen.unbind(1)]
        for depthwise, images in zip(self.depthwise, found, strict=True):
            if not len(images):
                biases = biases + sum(0 * weight.sum() for weight in depthwise.parameters())
        made = x + biases
        for i, images in enumerate(found):
            share = shares[:, i].expand(len(normal))
            if len(images) == len(normal):
                made += self._expert(i, normal, share)
            elif len(images):
                made.index_add_(0, images, self._expert(i, normal[images], share[images]).to(made.dtype))
        return made

    def _biases(self, shares: Tensor) -> Tensor:
        """Beta times the experts' biases, by their shares, [N, C, 1, 1]."""
        return (shares @ self.bias.to(shares.dtype))[:, :, None, None] * self.beta

    def _expert(self, i: int, normal: Tensor, share: Tensor) -> Tensor:
        """Beta times what an expert makes of images, without its bias, by its share of each."""
        channels = normal.shape[1]
        wide = slice(2 * channels * i, 2 * channels * (i + 1))
        assert self.expand.bias is not None
        part = conv_bias_lrelu(normal, self.expand.weight[wide], self.expand.bias[wide])
        gated = dconv(part, cast(nn.Conv2d, self.depthwise[i]), "product", share)
        project = self.project.weight[:, channels * i : channels * (i + 1)] * self.beta.view(-1, 1, 1, 1)
        return conv_bias_lrelu(gated, project, torch.zeros_like(self.bias[i]))


def _is_followed() -> bool:
    """Whether an exporter follows what is computed, which takes no branch by data."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()
