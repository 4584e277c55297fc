"""NAFNet with experts: after the blocks of a level a layer of them, chosen by the image (UniRain, CVPR 2026).

The paper's soft experts in the encoder and hard ones in the decoder; what an expert is, and where, it does not say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...ops import pixel_shuffle_skip
from .._common import check_image, cut, pad_to_multiple
from ..tiles import Read, spans
from .experts import MoELayer
from .nafnet import NAFNet

LOOKED_AT = 3  # tiles each way by which a large image is routed


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
