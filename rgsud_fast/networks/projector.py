"""The projector of patch contrasts: features of several layers made comparable, place by place (CUT, ECCV 2020)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

EPSILON = 1e-7  # added to a length before it divides


class Projector(nn.Module):
    """Per layer Linear, ReLU, Linear, then length 1. 560,384 parameters for CUT's five layers.

    Args:
        channels: of each layer.
        width: of what is compared.
    """

    def __init__(self, channels: Sequence[int], width: int = 256) -> None:
        super().__init__()
        self.sizes = {"channels": list(channels), "width": width}
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(count, width), nn.ReLU(), nn.Linear(width, width)) for count in channels
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight, 0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, features: Sequence[Tensor], places: Sequence[Tensor] | Tensor) -> list[Tensor]:
        """Compared vectors at some places.

        Args:
            features: of each layer, [N, C, H, W].
            places: of each layer, row-major, int64 [P], or [N, P] where each image has its own.

        Returns:
            Of each layer, [N, P, width], of length 1.
        """
        taken = [_take(layer.flatten(2), row) for layer, row in zip(features, places, strict=True)]
        made = [mlp(one.transpose(1, 2)) for mlp, one in zip(self.layers, taken, strict=True)]
        return [one / (one.norm(dim=2, keepdim=True) + EPSILON) for one in made]


def _take(layer: Tensor, places: Tensor) -> Tensor:
    """[N, C, H * W] at places [P] or [N, P] -> [N, C, P]."""
    return layer[:, :, places] if places.ndim == 1 else layer.gather(2, places[:, None].expand(-1, layer.shape[1], -1))
