"""NAFNet with experts: after the blocks of a level a layer of them, chosen by the image (UniRain, CVPR 2026).

The paper's soft experts in the encoder and hard ones in the decoder; what an expert is, and where, it does not say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UserError
from ...ops import layernorm2d, pixel_shuffle_skip
from .._common import Checkpointed, check_image, cut, pad_to_multiple, recomputed
from ..tiles import Read, spans
from .nafnet import LayerNorm2d, NAFNet
from .noise import normal_noise

MOST_CALLS = 8  # of the network between two readings of the balance
LOOKED_AT = 3  # tiles each way by which a large image is routed
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
        elif self.hard and not _is_followed() and not bool(softly):
            return x + self.beta * self._of_active(normal, kept)
        kept = kept.to(normal.dtype)
        again = self.checkpointed and torch.is_grad_enabled()
        return x + self.beta * (recomputed(self._of_all, normal, kept) if again else self._of_all(normal, kept))

    def _kept(self, shares: Tensor, softly: Tensor) -> Tensor:
        if not self.hard or self.active >= self.experts:
            return shares
        least = shares.topk(self.active, 1).values[:, -1:]
        return torch.where((shares >= least) | (softly > 0), shares, 0)

    def _of_all(self, normal: Tensor, shares: Tensor) -> Tensor:
        """All experts at once, whatever their share: shapes do not depend on the images."""
        if normal.device.type == "cpu" and not _is_followed():
            normal = normal.contiguous(memory_format=torch.channels_last)  # depth-wise kernels are 1.5 times as fast
        parts = self.expand(normal).chunk(self.experts, 1)
        gated = []
        for i, (part, depthwise) in enumerate(zip(parts, self.depthwise, strict=True)):
            first, second = depthwise(part).chunk(2, 1)
            gated.append(first * second * shares[:, i, None, None, None])
        made = self.project(torch.cat(gated, 1)) + (shares @ self.bias.to(shares.dtype))[:, :, None, None]
        return made.contiguous()

    def _of_active(self, normal: Tensor, shares: Tensor) -> Tensor:
        """Only the experts that an image has."""
        channels = normal.shape[1]
        made = torch.zeros_like(normal)
        for i, depthwise in enumerate(self.depthwise):
            images = shares.expand(len(normal), -1)[:, i].nonzero()[:, 0]
            if not len(images):
                continue
            some = normal if len(images) == len(normal) else normal[images]
            wide = slice(2 * channels * i, 2 * channels * (i + 1))
            assert self.expand.bias is not None
            part = F.conv2d(some, self.expand.weight[wide], self.expand.bias[wide])
            first, second = depthwise(part).chunk(2, 1)
            share = shares.expand(len(normal), -1)[images, i, None, None, None]
            own = F.conv2d(first * second * share, self.project.weight[:, channels * i : channels * (i + 1)])
            made[images] += own + share * self.bias[i][:, None, None]
        return made


class MoENet(NAFNet):
    """Remove rain of several types: NAFNet with a layer of experts after the blocks of each level, but the lowest.

    23,498,363 parameters with `middle` 8 and the other defaults. A fresh one computes what its NAFNet does.

    Args:
        width, encoder, middle, decoder: see `NAFNet`.
        experts, active, noise: see `MoELayer`.
        hard_encoder, hard_decoder: which layers are hard.
    """

    if TYPE_CHECKING:
        routing: Tensor
        softly: Tensor

    def __init__(
        self,
        width: int = 32,
        encoder: Sequence[int] = (2, 2, 4, 8),
        middle: int = 12,
        decoder: Sequence[int] = (2, 2, 2, 2),
        experts: int = 3,
        active: int = 1,
        noise: float = 0.33,
        hard_encoder: bool = False,
        hard_decoder: bool = True,
    ) -> None:
        super().__init__(width, encoder, middle, decoder)
        if not 1 <= active <= experts:
            raise ValueError(f"active must be from 1 to {experts} experts, got {active}")
        own: dict[str, Any] = {"experts": experts, "active": active, "noise": noise}
        self.sizes |= own | {"hard_encoder": hard_encoder, "hard_decoder": hard_decoder}
        levels = len(encoder)
        widths = [width << level for level in range(levels)]
        self.encoder_experts = nn.ModuleList(
            MoELayer(c, **own, hard=hard_encoder, place=i) for i, c in enumerate(widths)
        )
        self.decoder_experts = nn.ModuleList(
            MoELayer(c, **own, hard=hard_decoder, place=levels + i) for i, c in enumerate(widths[::-1])
        )
        # A file without sizes, such as a checkpoint, tells by it what shapes do not: active, noise, hard layers.
        self.register_buffer("routing", torch.tensor([active, noise, hard_encoder, hard_decoder], dtype=torch.float32))
        self.register_buffer("softly", torch.zeros((), dtype=torch.bool))

    @property
    def layers(self) -> dict[str, MoELayer]:
        """The layers of experts by their level, from the input on."""
        names = [f"encoder {i + 1}" for i in range(len(self.encoder_experts))]
        names += [f"decoder {i}" for i in range(len(self.decoder_experts), 0, -1)]
        found: list[Any] = [*self.encoder_experts, *self.decoder_experts]
        return dict(zip(names, found, strict=True))

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 3, H, W], any H and W; padded inside to a multiple of 2^levels."""
        check_image(image)
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, 1 << len(self.downs))
        x = self.first(padded)
        skips = []
        for blocks, experts, down in zip(self.encoder, self.encoder_experts, self.downs, strict=True):
            x = experts(blocks(x), self.softly)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for up, blocks, experts in zip(self.ups, self.decoder, self.decoder_experts, strict=True):
            x = experts(blocks(pixel_shuffle_skip(up(x), skips.pop())), self.softly)
        return cut(self.last(x) + padded, height, width)

    def start_from(self, base: NAFNet) -> MoENet:
        """Take the weights of a NAFNet of the same blocks; the experts begin without effect.

        Raises:
            UserError: it has other sizes.
        """
        own = {name: self.sizes[name] for name in base.sizes}
        if own != base.sizes:
            raise UserError(f"a NAFNet of the sizes {base.sizes} cannot start a moe of {own}: make them alike")
        state = base.state_dict()
        missing, unexpected = self.load_state_dict(state, strict=False)
        assert not unexpected and not set(missing) & set(state)
        return self

    def route(self, softly: bool) -> None:
        """Let hard layers be soft from now on, or no longer: an immature router under other gradients collapses."""
        self.softly.fill_(softly)

    def balance(self, mean: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Mean over the layers of CV^2 of the experts' mean shares in the batches since the last call; scalar.

        Args:
            mean: over processes that share a batch; the gradient of each is then that of its own share.
        """
        importance = torch.stack([torch.stack(layer.importance).mean(0) for layer in self.layers.values()])
        for layer in self.layers.values():
            layer.importance = []
        if mean is not None:
            importance = importance + (mean(importance.detach()) - importance.detach())
        return (importance.var(1, unbiased=False) / importance.mean(1).square()).mean()

    def shares_used(self) -> dict[str, list[float]]:
        """Each expert's share of what its layer was used for in training since the last call; waits for the device."""
        found = {}
        for name, layer in self.layers.items():
            found[name] = (layer.used / layer.used.sum().clamp(min=1e-12)).tolist()
            layer.used.zero_()
        return found

    @torch.no_grad()
    def shares_of(self, image: Tensor) -> dict[str, list[float]]:
        """R of each layer for an image, [1, 3, H, W], the mean over a batch: what the router thinks, without a cut."""
        with self._watching() as seen:
            self(image)
            return {name: logits.softmax(1).mean(0).tolist() for name, logits in zip(self.layers, seen(), strict=True)}

    @torch.no_grad()
    def routed(self, read: Read, height: int, width: int, tile: int, overlap: int) -> Callable[[Tensor], Tensor]:
        """This network as it treats the tiles of one image: all alike, since experts that change would show as seams.

        The logits are the mean over at most nine tiles, spread over the image.

        Args:
            read: gives the pixels of a window.
            height, width: of the image.
            tile, overlap: see `tiles.run_tiled`.
        """
        if not tile or (height <= tile and width <= tile):
            return self
        rows, columns = (_few(spans(length, tile, overlap)) for length in (height, width))
        with self._watching() as seen:
            for top, bottom in rows:
                for left, right in columns:
                    self(read(top, bottom, left, right).to(self.routing.device))
            fixed = [logits.mean(0, keepdim=True) for logits in seen()]

        def call(tiles: Tensor) -> Tensor:
            with self._fixed(fixed):
                return cast(Tensor, self(tiles))

        return call

    @contextlib.contextmanager
    def _watching(self) -> Iterator[Callable[[], list[Tensor]]]:
        """Note the logits of every layer; what is yielded gives them, [images, experts] each."""
        for layer in self.layers.values():
            layer.seen = []
        try:
            yield lambda: [torch.cat(layer.seen or []) for layer in self.layers.values()]
        finally:
            for layer in self.layers.values():
                layer.seen = None

    @contextlib.contextmanager
    def _fixed(self, logits: Sequence[Tensor]) -> Iterator[None]:
        for layer, own in zip(self.layers.values(), logits, strict=True):
            layer.fixed = own
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.fixed = None


def _few(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    last = len(pieces) - 1
    places = dict.fromkeys(round(i * last / (LOOKED_AT - 1)) for i in range(LOOKED_AT))
    return [pieces[place] for place in places]


def _is_followed() -> bool:
    """Whether an exporter follows what is computed, which takes no branch by data."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()
