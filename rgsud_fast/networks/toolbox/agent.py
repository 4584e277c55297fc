"""The agent: from what an image looks like now, and what was done last, to the worth of every tool and of stopping."""

from __future__ import annotations

from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UserError

Hidden: TypeAlias = tuple[Tensor, Tensor]  # of the LSTM, [1, N, 50] each
NONE = -1  # in place of an action: there was none, or the episode is over
FEATURES, MEMORY = 32, 50
GAIN = 4  # of pixels less 0.5: contrast as layers like it
_CONVOLUTIONS = ((3, 32, 9), (32, 24, 5), (24, 24, 5), (24, 24, 5))  # channels in, out, taps; each halves the side
_POOLED = ((3, 32, 7, 2), (32, 32, 5, 2), (32, 48, 3, 2), (48, 64, 3, 1))  # channels in, out, taps, stride


class Agent(nn.Module):
    """A recurrent Q network (RL-Restore, CVPR 2018).

    Four convolutions of stride 2 and ReLU, a layer of 32, the previous action as one-hot beside it, an LSTM of 50, a
    linear layer. With 12 tools and side 63 it has 87,863 parameters that learn: PyTorch's second bias of the LSTM stays
    0. The last output is the worth of stopping; a stop has no place among previous actions.

    Pixels are centred, and layers begin as He has them, ours: trained to tell how strong blur, noise and JPEG are, the
    network left 0.18, 0.06 and 0.27 of a squared error of 0.33 after 1,000 steps of 32 patches, and 0.31, 0.18 and 0.30
    with pixels in [0, 1] and PyTorch's first weights. What it can express is the same.

    Args:
        tools: how many there are, A.
        side: of the images that it sees, in pixels.
        pooled: ours: it sees means and spreads over all pixels, of the image and of each layer, and not what is where.
            What damage an image has does not depend on the place: of 12,800 patches with rain such an eye learned what
            tools gain with a correlation of 0.6 for streaks on other patches, the paper's with one of 0.25. Its last
            convolution keeps the side, and what is seen is normalised (LayerNorm) before the layer of 32.
    """

    def __init__(self, tools: int, side: int = 63, pooled: bool = False) -> None:
        super().__init__()
        self.tools, self.side, self.pooled = tools, side, pooled
        layers = _POOLED if pooled else [(*layer, 2) for layer in _CONVOLUTIONS]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, taps, stride=stride, padding=taps // 2) for a, b, taps, stride in layers
        )
        if pooled:
            inputs = 2 * (3 + sum(layer[1] for layer in layers))
            self.scale = nn.LayerNorm(inputs)
        else:
            for _ in layers:
                side = (side + 1) // 2
            inputs = layers[-1][1] * side * side
        self.features = nn.Linear(inputs, FEATURES)
        self.memory = nn.LSTM(FEATURES + tools, MEMORY, batch_first=True)
        self.head = nn.Linear(MEMORY, tools + 1)
        for layer in (*self.convolutions, self.features):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.memory.get_parameter("bias_hh_l0").requires_grad_(False))

    @property
    def stop(self) -> int:
        """The number of the action that ends an episode."""
        return self.tools

    def forward(self, images: Tensor, previous: Tensor, hidden: Hidden | None = None) -> tuple[Tensor, Hidden]:
        """The worth of every action along episodes.

        Args:
            images: what each step begins with, [N, T, 3, side, side].
            previous: action before each step, [N, T] int64; `NONE` before the first.
            hidden: the memory before the first of these steps; None is that of a new episode, zeros.

        Returns:
            Q [N, T, A + 1], and the memory after the last step, which is the caller's to keep.

        Raises:
            UserError: images of another side.
        """
        if images.shape[-2:] != (self.side, self.side):
            got = f"{images.shape[-1]} x {images.shape[-2]}"
            raise UserError(f"this agent looks at {self.side} x {self.side} pixels, got {got}")
        x = self.look(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        x, hidden = self.memory(torch.cat([x, one_hot(previous, self.tools)], 2), hidden)
        return self.head(x), hidden

    def look(self, images: Tensor) -> Tensor:
        """What it sees in images, without memory: [N, 3, side, side] -> [N, 32]."""
        x = GAIN * (images - 0.5)
        seen = [*_statistics(images)] if self.pooled else []
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
            if self.pooled:
                seen += _statistics(x)
        return F.relu(self.features(self.scale(torch.cat(seen, 1)) if self.pooled else x.flatten(1)))


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, [N, C, H, W] -> [N, C] each."""
    mean = x.mean((2, 3))
    return mean, ((x - mean[:, :, None, None]).square().mean((2, 3)) + 1e-6).sqrt()


def one_hot(actions: Tensor, tools: int) -> Tensor:
    """[...] int64 -> [..., tools] float; zeros for what is no tool, as a stop and `NONE`."""
    return (actions[..., None] == torch.arange(tools, device=actions.device)).float()
